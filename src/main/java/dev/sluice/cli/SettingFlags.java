package dev.sluice.cli;

import dev.sluice.decoder.Decoders;
import dev.sluice.training.RunConfig;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine;
import picocli.CommandLine.Model.ArgGroupSpec;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.ParseResult;

/// One flag for every setting of a run: `batch_size` in a file is `--batch-size` here.
final class SettingFlags {
  /// What `--help` says of each setting; the names are those of [RunConfig].
  static final Map<String, String> HELP = new LinkedHashMap<>();

  static {
    HELP.put(
        "data",
        "A .txt, .jsonl (also .gz, .zst) or Parquet file or a folder of them; moby-dick is the"
            + " bundled book.");
    HELP.put("text_field", "The JSON field or Parquet column that holds the text.");
    HELP.put("tokenizer", "bytes, or the path of a Hugging Face tokenizer.json.");
    HELP.put(
        "eos_token",
        "The token that ends documents, as the vocabulary has it; empty for the one that the files"
            + " beside tokenizer.json name.");
    HELP.put("held_out_share", "The share of the text kept from training.");
    HELP.put("model", "A named model: " + String.join(", ", Decoders.names()) + ".");
    HELP.put("vocab_size", "Vocabulary of the model.");
    HELP.put("hidden_size", "Model width.");
    HELP.put("intermediate_size", "Feed-forward width.");
    HELP.put("layers", "Number of blocks.");
    HELP.put("attention_heads", "Query heads.");
    HELP.put("key_value_heads", "Key/value heads.");
    HELP.put("head_dim", "Size of a head.");
    HELP.put("experts", "Experts of a feed-forward layer; 1 for a dense model.");
    HELP.put("experts_per_token", "How many experts a token goes through.");
    HELP.put("expert_balance", "Weight of the loss that balances experts.");
    HELP.put("router_z", "Weight of the router's z-loss.");
    HELP.put("tie_word_embeddings", "Use the embedding as the output matrix.");
    HELP.put(
        "gate",
        "model (the named model's own), none, sdpa-headwise, sdpa-elementwise, or"
            + " POSITION-GRANULARITY with POSITION query, key, value, sdpa or dense and GRANULARITY"
            + " headwise or elementwise; several joined by +.");
    HELP.put(
        "softmax_sink",
        "none, off-by-one, or learned: an extra score per head in the softmax's denominator.");
    HELP.put(
        "exclusive_attention",
        "Take from each head's output its part along the token's own value.");
    HELP.put("sdpa_nonlinearity", "none, rms-norm or silu, on each head's output.");
    HELP.put(
        "switch_head",
        "none, value-N-choose-K or key-value-N-choose-K: each key/value head's projections chosen"
            + " among experts.");
    HELP.put("sandwich_norm", "Norm what a sublayer adds to the residual stream.");
    HELP.put("residual_clip", "Clip what a sublayer adds to this magnitude; 0 for none.");
    HELP.put("gated_norm_rank", "Gate every norm's result through this rank; 0 for plain norms.");
    HELP.put(
        "match_parameters",
        "Narrow the feed-forward so that the gated model is as large as the ungated one.");
    HELP.put(
        "precision", "float32, or bfloat16 (matrix products; weights and the rest stay float32).");
    HELP.put("device", "cpu, cuda, cuda:INDEX or auto.");
    HELP.put("sequence_length", "Tokens per sequence.");
    HELP.put("batch_size", "Sequences per micro-batch, of all ranks together.");
    HELP.put("gradient_accumulation", "Micro-batches per step.");
    HELP.put(
        "zero",
        "What ranks share besides the batch: 0 nothing, 1 the optimizer's state, 2 gradients too.");
    HELP.put("steps", "Optimizer steps.");
    HELP.put("learning_rate", "The maximum.");
    HELP.put("schedule", "cosine, or wsd (warm-up, stable, decay).");
    HELP.put("warmup_steps", "Steps until the maximum.");
    HELP.put("decay_steps", "Steps of the last phase of wsd; 0 for a fifth of all.");
    HELP.put("min_learning_rate_share", "Share of the maximum at the end.");
    HELP.put("weight_decay", "AdamW's decay, on matrices only.");
    HELP.put("beta1", "AdamW's β₁.");
    HELP.put("beta2", "AdamW's β₂.");
    HELP.put("epsilon", "AdamW's ε.");
    HELP.put("clip_norm", "The largest global gradient norm.");
    HELP.put(
        "stop_diverged",
        "End a run whose loss stays above where it began, or at the first that is not finite.");
    HELP.put(
        "spike_threshold",
        "Pass over a step whose loss or gradient norm is so many deviations above the median; 0"
            + " for only those that are not finite.");
    HELP.put("spike_window", "Accepted steps that the median is of.");
    HELP.put("max_skips", "Steps passed over in a row before going back to a checkpoint.");
    HELP.put("max_rollbacks", "How often a run goes back before it is given up.");
    HELP.put("seed", "Of weights and data order.");
    HELP.put("held_out_windows", "Held-out sequences per evaluation.");
    HELP.put("evaluate_every", "Steps between evaluations.");
    HELP.put("save_every", "Steps between checkpoints.");
    HELP.put("keep_checkpoints", "How many of the newest checkpoints stay.");
    HELP.put("keep_every", "Checkpoints at multiples of so many steps stay too; 0 for none.");
    HELP.put("keep_best", "The checkpoint with the lowest held-out loss stays too.");
    HELP.put("sample_every", "Steps between samples; 0 samples at the end only.");
    HELP.put("sample_prompt", "What samples continue.");
    HELP.put("sample_tokens", "Tokens per sample; 0 for none.");
  }

  private SettingFlags() {}

  /// The first setting of each group in `--help`, and the group's heading.
  private static final Map<String, String> GROUPS =
      Map.of(
          "data", "Text",
          "model", "Model",
          "precision", "Computing",
          "sequence_length", "Training",
          "held_out_windows", "Measuring, saving and sampling");

  /// Adds the flags to a subcommand, in groups.
  ///
  /// @param left settings that the subcommand decides itself
  static void addTo(CommandLine main, String subcommand, RunConfig defaults, Set<String> left) {
    var spec = Objects.requireNonNull(main.getSubcommands().get(subcommand)).getCommandSpec();
    var values = defaults.settings();
    ArgGroupSpec.@Nullable Builder group = null;
    int order = 0;
    for (String name : HELP.keySet()) {
      String heading = GROUPS.get(name);
      if (heading != null || group == null) {
        addGroup(spec, group);
        group =
            ArgGroupSpec.builder()
                .heading("%n" + heading + "%n")
                .validate(false)
                .exclusive(false)
                .order(order++);
      }
      if (left.contains(name)) {
        continue;
      }
      group.addArg(option(name, Objects.requireNonNull(values.get(name))));
    }
    addGroup(spec, group);
  }

  private static void addGroup(CommandSpec spec, ArgGroupSpec.@Nullable Builder group) {
    if (group != null && !group.args().isEmpty()) {
      spec.addArgGroup(group.build());
    }
  }

  private static OptionSpec option(String name, Object value) {
    var option =
        OptionSpec.builder(flag(name))
            .type(String.class)
            .description(HELP.get(name) + " Default: " + shown(name, value) + ".")
            .paramLabel(value instanceof Number ? "N" : "VALUE");
    if (value instanceof Boolean) {
      option.arity("0..1").fallbackValue("true").paramLabel("true|false");
    }
    return option.build();
  }

  /// A default as a user would write it.
  private static String shown(String name, Object value) {
    if (SIZES.contains(name) && value.equals(0)) {
      return name.equals("vocab_size") ? "the tokenizer's" : "the model's";
    }
    return switch (value) {
      case String text when text.isEmpty() -> "empty";
      case String text when text.endsWith(" ") -> '"' + text + '"';
      case Double number when number != 0 && Math.abs(number) < 1e-3 ->
          String.format(Locale.ROOT, "%.0e", number);
      default -> String.valueOf(value);
    };
  }

  /// Settings for which 0 stands for something else.
  private static final Set<String> SIZES =
      Set.of(
          "vocab_size",
          "hidden_size",
          "intermediate_size",
          "layers",
          "attention_heads",
          "key_value_heads",
          "head_dim",
          "experts",
          "experts_per_token");

  /// The settings that the user gave.
  static Map<String, String> given(ParseResult parsed) {
    Map<String, String> given = new LinkedHashMap<>();
    for (String name : HELP.keySet()) {
      if (parsed.hasMatchedOption(flag(name))) {
        given.put(name, parsed.matchedOptionValue(flag(name), ""));
      }
    }
    return given;
  }

  private static String flag(String name) {
    return "--" + name.replace('_', '-');
  }
}
