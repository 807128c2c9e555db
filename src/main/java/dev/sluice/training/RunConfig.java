package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.SdpaNonlinearity;
import dev.sluice.attention.SoftmaxSink;
import dev.sluice.attention.SwitchHead;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Decoders;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.files.TomlFile;
import dev.sluice.files.WholeFile;
import dev.sluice.gate.Gate;
import dev.sluice.optimizer.LearningRateSchedule;
import dev.sluice.tensor.Precision;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.type.TypeReference;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;
import tools.jackson.dataformat.toml.TomlMapper;

/// Everything that decides a training run: what `config.toml` holds and what the flags of `sluice
/// train` set.
///
/// Zero in `vocab_size` … `head_dim` means the named model's own value.
///
/// @param data a text, JSON lines or Parquet file, or a folder of them; `moby-dick` is the bundled
///   book
/// @param textField the field or column that holds the text
/// @param tokenizer `bytes`, or a `tokenizer.json`
/// @param eosToken the token that ends documents, as the vocabulary has it; empty for the one that
///   the tokenizer's files name
/// @param heldOutShare the share of the text that is kept from training
/// @param model a named configuration that the sizes below override
/// @param vocabSize at least the tokenizer's vocabulary, which zero stands for
/// @param hiddenSize D
/// @param intermediateSize the feed-forward width
/// @param layers number of blocks
/// @param attentionHeads query heads
/// @param keyValueHeads key/value heads
/// @param headDim size of a head
/// @param experts experts of a layer; 1 for a dense model
/// @param expertsPerToken how many of them a token goes through
/// @param expertBalance weight of the loss that balances experts
/// @param routerZ weight of the router's z-loss
/// @param tieWordEmbeddings whether the output matrix is the embedding, where the named model has
///   it so
/// @param gate `none`, gates' names joined by `+`, or `model` for the named model's own
/// @param softmaxSink `none`, `off-by-one` or `learned`
/// @param exclusiveAttention whether heads lose their part along the token's own value
/// @param sdpaNonlinearity `none`, `rms-norm` or `silu`, on each head's output
/// @param switchHead `none`, `value-N-choose-K` or `key-value-N-choose-K`
/// @param sandwichNorm norm what a sublayer adds to the residual stream
/// @param residualClip clip what a sublayer adds to ± this; 0 for none
/// @param gatedNormRank gate every norm's result through this rank; 0 for none
/// @param matchParameters narrow the feed-forward width so that the gated model is as large as the
///   ungated one
/// @param precision `float32` or `bfloat16` (mixed, float32 master weights)
/// @param device `cpu`, `cuda`, `cuda:INDEX` or `auto`
/// @param sequenceLength tokens per sequence
/// @param batchSize sequences per micro-batch, of all ranks together
/// @param gradientAccumulation micro-batches per step
/// @param zero what ranks share besides the batch: 0 nothing, 1 the optimizer's state, 2 gradients
///   too
/// @param steps optimizer steps of the run
/// @param learningRate the maximum
/// @param schedule `cosine` or `wsd` (warm-up, stable, decay)
/// @param warmupSteps steps until the maximum
/// @param decaySteps steps of the last phase of `wsd`
/// @param minLearningRateShare the share of the maximum at the end
/// @param weightDecay λ of AdamW, on matrices only
/// @param beta1 of AdamW
/// @param beta2 of AdamW
/// @param epsilon of AdamW
/// @param clipNorm the largest global gradient norm
/// @param stopDiverged end the run when its loss has stayed above where it began, see [Divergence],
///   or at the first loss or gradient that is not finite
/// @param spikeThreshold a step whose loss or gradient norm is so many deviations above the median
///   is passed over, see [SpikeGuard]; 0 for only those that are not finite
/// @param spikeWindow accepted steps that the median is of
/// @param maxSkips steps passed over in a row before the run goes back to a checkpoint
/// @param maxRollbacks how often a run goes back before it is given up
/// @param seed of weights and data order
/// @param heldOutWindows sequences of held-out text per evaluation
/// @param evaluateEvery steps between evaluations
/// @param saveEvery steps between checkpoints
/// @param keepCheckpoints how many of the newest checkpoints stay
/// @param keepEvery checkpoints at multiples of so many steps stay as well; 0 for none
/// @param keepBest the checkpoint with the lowest held-out loss stays as well
/// @param sampleEvery steps between printed samples; 0 for none but the last
/// @param samplePrompt what samples continue
/// @param sampleTokens tokens per sample
public record RunConfig(
    String data,
    String textField,
    String tokenizer,
    String eosToken,
    double heldOutShare,
    String model,
    int vocabSize,
    int hiddenSize,
    int intermediateSize,
    int layers,
    int attentionHeads,
    int keyValueHeads,
    int headDim,
    int experts,
    int expertsPerToken,
    double expertBalance,
    double routerZ,
    boolean tieWordEmbeddings,
    String gate,
    String softmaxSink,
    boolean exclusiveAttention,
    String sdpaNonlinearity,
    String switchHead,
    boolean sandwichNorm,
    double residualClip,
    int gatedNormRank,
    boolean matchParameters,
    String precision,
    String device,
    int sequenceLength,
    int batchSize,
    int gradientAccumulation,
    int zero,
    int steps,
    double learningRate,
    String schedule,
    int warmupSteps,
    int decaySteps,
    double minLearningRateShare,
    double weightDecay,
    double beta1,
    double beta2,
    double epsilon,
    double clipNorm,
    boolean stopDiverged,
    double spikeThreshold,
    int spikeWindow,
    int maxSkips,
    int maxRollbacks,
    long seed,
    int heldOutWindows,
    int evaluateEvery,
    int saveEvery,
    int keepCheckpoints,
    int keepEvery,
    boolean keepBest,
    int sampleEvery,
    String samplePrompt,
    int sampleTokens) {
  /// The file's name in a run directory.
  public static final String FILE = "config.toml";

  /// What holds where neither file nor flag says otherwise.
  public static final RunConfig DEFAULTS =
      new RunConfig(
          "moby-dick",
          "text",
          "bytes",
          "",
          0.1,
          "tiny",
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          1e-3,
          1e-3,
          true,
          "model",
          "none",
          false,
          "none",
          "none",
          false,
          0,
          0,
          false,
          "float32",
          "auto",
          512,
          8,
          1,
          0,
          400,
          3e-3,
          "cosine",
          20,
          0,
          0.1,
          0.1,
          0.9,
          0.95,
          1e-8,
          1.0,
          false,
          0,
          128,
          3,
          2,
          1,
          32,
          100,
          100,
          3,
          0,
          true,
          0,
          "The ",
          200);

  private static final JsonMapper JSON =
      JsonMapper.builder().propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE).build();

  private static final TomlMapper TOML = TomlMapper.builder().build();

  private static final TypeReference<LinkedHashMap<String, Object>> SETTINGS =
      new TypeReference<>() {};

  /// Characters of a wrong value that a message repeats.
  private static final int LONGEST_VALUE = 100;

  public RunConfig {
    for (String text :
        List.of(
            data,
            textField,
            tokenizer,
            eosToken,
            model,
            gate,
            softmaxSink,
            sdpaNonlinearity,
            switchHead,
            precision,
            device,
            schedule,
            samplePrompt)) {
      if (!StandardCharsets.UTF_8.newEncoder().canEncode(text)) { // config.toml could not hold it
        throw new InvalidInputException(
            "'%s' holds half a character (a surrogate without its other half); give whole characters"
                .formatted(Printable.brief(text, LONGEST_VALUE)));
      }
    }
    require(!data.isBlank(), "data", data, "name a file or folder");
    require(
        heldOutShare > 0 && heldOutShare < 1,
        "held_out_share",
        heldOutShare,
        "use a share between 0 and 1");
    require(sequenceLength >= 2, "sequence_length", sequenceLength, "use at least 2");
    require(batchSize >= 1, "batch_size", batchSize, "use at least 1");
    require(
        gradientAccumulation >= 1, "gradient_accumulation", gradientAccumulation, "use at least 1");
    double ids = (double) batchSize * gradientAccumulation * (sequenceLength + 1.0);
    require(
        ids <= MOST_IDS_OF_A_STEP,
        "batch_size × gradient_accumulation × sequence_length",
        "%d × %d × %d".formatted(batchSize, gradientAccumulation, sequenceLength),
        "a step may have " + MOST_IDS_OF_A_STEP + " tokens");
    require(zero >= 0 && zero <= 2, "zero", zero, "use 0, 1 or 2");
    require(steps >= 1, "steps", steps, "use at least 1");
    require(
        expertBalance >= 0 && Double.isFinite(expertBalance),
        "expert_balance",
        expertBalance,
        "use 0 or a small positive number");
    require(
        routerZ >= 0 && Double.isFinite(routerZ),
        "router_z",
        routerZ,
        "use 0 or a small positive number");
    require(
        learningRate > 0 && learningRate < 1e3,
        "learning_rate",
        learningRate,
        "use a positive number below 1000, such as 0.003");
    require(
        weightDecay >= 0 && weightDecay < 1e3,
        "weight_decay",
        weightDecay,
        "use 0 or a positive number below 1000, such as 0.1");
    require(beta1 >= 0 && beta1 < 1, "beta1", beta1, "use a number in [0, 1)");
    require(beta2 >= 0 && beta2 < 1, "beta2", beta2, "use a number in [0, 1)");
    require(
        epsilon > 0 && Double.isFinite(epsilon), "epsilon", epsilon, "use a small positive number");
    requireSize("vocab_size", vocabSize);
    requireSize("hidden_size", hiddenSize);
    requireSize("intermediate_size", intermediateSize);
    requireSize("layers", layers);
    requireSize("attention_heads", attentionHeads);
    requireSize("key_value_heads", keyValueHeads);
    requireSize("head_dim", headDim);
    requireSize("experts", experts);
    requireSize("experts_per_token", expertsPerToken);
    require(decaySteps >= 0, "decay_steps", decaySteps, "use 0 for a fifth of all");
    require(
        clipNorm > 0 && Double.isFinite(clipNorm), "clip_norm", clipNorm, "use a positive number");
    require(
        spikeThreshold == 0 || (spikeThreshold >= 1 && Double.isFinite(spikeThreshold)),
        "spike_threshold",
        spikeThreshold,
        "use 0 for none or at least 1, such as 6");
    require(
        spikeWindow >= SpikeGuard.FEWEST,
        "spike_window",
        spikeWindow,
        "use at least " + SpikeGuard.FEWEST);
    require(maxSkips >= 0, "max_skips", maxSkips, "use 0 for none");
    require(maxRollbacks >= 0, "max_rollbacks", maxRollbacks, "use 0 for none");
    require(keepEvery >= 0, "keep_every", keepEvery, "use 0 for none");
    require(heldOutWindows >= 1, "held_out_windows", heldOutWindows, "use at least 1");
    require(evaluateEvery >= 1, "evaluate_every", evaluateEvery, "use at least 1");
    require(saveEvery >= 1, "save_every", saveEvery, "use at least 1");
    require(keepCheckpoints >= 1, "keep_checkpoints", keepCheckpoints, "use at least 1");
    require(sampleEvery >= 0, "sample_every", sampleEvery, "use 0 for none");
    require(sampleTokens >= 0, "sample_tokens", sampleTokens, "use 0 for none");
  }

  /// What a step's batches may hold; they are read at once.
  private static final long MOST_IDS_OF_A_STEP = 1L << 28;

  private static void require(boolean holds, String name, Object value, String wayOut) {
    if (!holds) {
      throw new InvalidInputException(name + " cannot be " + value + "; " + wayOut);
    }
  }

  private static void requireSize(String name, int value) {
    require(value >= 0, name, value, "use 0 for the named model's");
  }

  // ---------------------------------------------------------------- from text

  /// The configuration of a TOML file and flags: flags win over the file, the file over the
  /// defaults.
  ///
  /// @param file read when not null
  /// @param flags setting names, such as `batch_size`, and their values as text
  public static RunConfig from(@Nullable Path file, Map<String, String> flags) {
    return DEFAULTS.with(file, flags);
  }

  /// This configuration with the settings of a TOML file and of flags.
  public RunConfig with(@Nullable Path file, Map<String, String> flags) {
    return with(
        file == null ? Map.of() : JSON.convertValue(TomlFile.read(file), SETTINGS), file, flags);
  }

  /// This configuration with settings that were read from a file and with those of flags.
  ///
  /// @param file where they were read, for error messages; null where there was none
  public RunConfig with(Map<String, Object> read, @Nullable Path file, Map<String, String> flags) {
    ObjectNode merged = JSON.valueToTree(this);
    for (var entry : JSON.<ObjectNode>valueToTree(read).properties()) {
      String name = known(merged, entry.getKey(), String.valueOf(file));
      requireKind(merged.get(name), entry.getValue(), name, file);
      merged.set(name, entry.getValue());
    }
    flags.forEach(
        (name, value) ->
            merged.set(known(merged, name, "the command line"), parse(merged, name, value)));
    try {
      return JSON.treeToValue(merged, RunConfig.class);
    } catch (JacksonException e) {
      if (e.getCause() instanceof InvalidInputException cause) {
        throw cause;
      }
      String setting =
          e.getPath().isEmpty() ? "a setting" : e.getPath().getLast().getPropertyName();
      throw new InvalidInputException(
          setting
              + (file == null ? "" : " in " + file)
              + " has a value of the wrong kind: "
              + merged.path(setting)
              + "; the default is "
              + DEFAULTS.settings().get(setting),
          e);
    }
  }

  /// A value of another kind is an error, not something to be converted: `steps = 1.5` is no step
  /// count.
  private static void requireKind(
      JsonNode expected, JsonNode value, String name, @Nullable Path file) {
    boolean fits;
    String kind;
    if (expected.isInt()) {
      fits = value.isIntegralNumber() && value.canConvertToInt();
      kind = "a whole number up to " + Integer.MAX_VALUE;
    } else if (expected.isIntegralNumber()) {
      fits = value.isIntegralNumber() && value.canConvertToLong();
      kind = "a whole number up to " + Long.MAX_VALUE;
    } else if (expected.isNumber()) {
      fits = value.isNumber() && Double.isFinite(value.asDouble(Double.NaN));
      kind = value.isNumber() ? "a finite number" : "a number";
    } else if (expected.isBoolean()) {
      fits = value.isBoolean();
      kind = "true or false";
    } else {
      fits = value.isString();
      kind = "text in quotes";
    }
    if (!fits) {
      throw new InvalidInputException(
          "%s: %s must be %s, not %s"
              .formatted(file, name, kind, Printable.brief(value, LONGEST_VALUE)));
    }
  }

  private static String known(ObjectNode settings, String name, String source) {
    if (!settings.has(name)) {
      throw new InvalidInputException(
          "unknown setting '"
              + Printable.brief(name, LONGEST_VALUE)
              + "' in "
              + source
              + "; known are "
              + String.join(", ", settings.propertyNames()));
    }
    return name;
  }

  private static JsonNode parse(ObjectNode settings, String name, String value) {
    JsonNode present = settings.get(name);
    try {
      if (present.isInt()) {
        return settings.numberNode(Integer.parseInt(value));
      }
      if (present.isIntegralNumber()) {
        return settings.numberNode(Long.parseLong(value));
      }
      if (present.isNumber()) {
        double number = Double.parseDouble(value);
        if (!Double.isFinite(number)) {
          throw new NumberFormatException("not finite");
        }
        return settings.numberNode(number);
      }
    } catch (NumberFormatException e) {
      String kind =
          present.isInt()
              ? "a whole number up to " + Integer.MAX_VALUE
              : present.isIntegralNumber()
                  ? "a whole number up to " + Long.MAX_VALUE
                  : "a finite number";
      throw new InvalidInputException(
          "%s must be %s, not '%s'".formatted(name, kind, Printable.brief(value, LONGEST_VALUE)),
          e);
    }
    if (present.isBoolean()) {
      if (!value.equals("true") && !value.equals("false")) {
        throw new InvalidInputException(
            "%s must be true or false, not '%s'"
                .formatted(name, Printable.brief(value, LONGEST_VALUE)));
      }
      return settings.booleanNode(value.equals("true"));
    }
    return settings.stringNode(value);
  }

  /// Every setting by its name in files, in order.
  public Map<String, Object> settings() {
    return JSON.convertValue(this, SETTINGS);
  }

  /// Writes `config.toml` into a directory.
  public void write(Path directory) throws IOException {
    WholeFile.write(directory.resolve(FILE), TOML.writeValueAsString(settings()));
  }

  // ---------------------------------------------------------------- what it means

  /// The gates.
  public List<Gate> gates() {
    if (gate.isBlank() || gate.equals("none")) {
      return List.of();
    }
    if (gate.equals("model")) {
      return Decoders.named(model).attention().gates();
    }
    List<Gate> gates = new ArrayList<>();
    for (String name : gate.split("\\+")) {
      gates.add(Gate.parse(name));
    }
    return gates;
  }

  /// The gates' names joined by `+`, or `none`.
  public String gateNames() {
    return gates().isEmpty() ? "none" : String.join("+", gates().stream().map(Gate::name).toList());
  }

  /// The model for a vocabulary of that size.
  public DecoderConfig decoder(int vocabSize) {
    var named = Decoders.named(model);
    var ungated =
        DecoderConfig.uniform(
                vocabSize,
                hiddenSize > 0 ? hiddenSize : named.hiddenSize(),
                intermediateSize > 0 ? intermediateSize : named.feedForward().intermediateSize(),
                layers > 0 ? layers : named.layers().size(),
                attentionHeads > 0 ? attentionHeads : named.attention().attentionHeads(),
                keyValueHeads > 0 ? keyValueHeads : named.attention().keyValueHeads(),
                headDim > 0 ? headDim : named.attention().headDim(),
                Math.max(sequenceLength, named.maxPositionEmbeddings()),
                named.attention().positions().rotary().orElseThrow().theta(),
                new RopeScaling.None(),
                named.norm().epsilon(),
                named.attention().qkNorm(),
                tieWordEmbeddings && named.tieWordEmbeddings(),
                named.initializerRange(),
                List.of())
            .with(experts(named.feedForward().experts()));
    var gated =
        ungated
            .with(gates())
            .with(
                new AttentionVariant(
                    SoftmaxSink.parse(softmaxSink),
                    exclusiveAttention,
                    SdpaNonlinearity.parse(sdpaNonlinearity),
                    SwitchHead.parse(switchHead)))
            .with(new ResidualVariant(sandwichNorm, residualClip, gatedNormRank));
    return matchParameters ? gated.matchingParameters(ungated.parameterCount(), 1) : gated;
  }

  private Experts experts(Experts named) {
    int count = experts > 0 ? experts : Math.max(1, named.count());
    int perToken = expertsPerToken > 0 ? expertsPerToken : Math.max(1, named.perToken());
    return count == 1 ? Experts.NONE : new Experts(count, perToken, expertBalance, routerZ);
  }

  /// What settings do beside what their names say: nothing is changed without a word.
  public List<String> notes() {
    List<String> notes = new ArrayList<>();
    if (warmupSteps > steps) {
      notes.add(
          "warmup_steps is %d and the run has %d steps: the learning rate rises to its maximum at the last step."
              .formatted(warmupSteps, steps));
    }
    if (decaySteps > 0 && !schedule.equalsIgnoreCase("wsd")) {
      notes.add("decay_steps %d does nothing with schedule %s.".formatted(decaySteps, schedule));
    }
    return notes;
  }

  public Precision precisionOf() {
    return Precision.parse(precision);
  }

  /// When a step is passed over, and when the run goes back or is given up.
  SpikeGuard.Settings spikeGuard() {
    return new SpikeGuard.Settings(
        spikeThreshold, spikeWindow, stopDiverged ? 0 : maxSkips, stopDiverged ? 0 : maxRollbacks);
  }

  /// The learning rate of a step.
  ///
  /// @param step from 1
  double learningRateAt(int step) {
    return learningRate * scheduleOf().at(step - 1);
  }

  public LearningRateSchedule scheduleOf() {
    int warmup = Math.min(warmupSteps, steps);
    return switch (schedule.toLowerCase(Locale.ROOT)) {
      case "cosine" -> new LearningRateSchedule.Cosine(warmup, steps, minLearningRateShare);
      case "wsd" ->
          new LearningRateSchedule.WarmupStableDecay(
              warmup,
              steps,
              decaySteps > 0 ? decaySteps : Math.min(steps / 5, steps - warmup),
              minLearningRateShare);
      default ->
          throw new InvalidInputException("unknown schedule '" + schedule + "'; use cosine or wsd");
    };
  }
}
