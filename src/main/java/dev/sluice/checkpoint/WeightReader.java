package dev.sluice.checkpoint;

import static dev.sluice.checkpoint.ModelDirectory.GATE;
import static dev.sluice.checkpoint.ModelDirectory.QUERY;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.MixerConfig;
import dev.sluice.deltanet.GatedDeltaNetConfig;
import dev.sluice.gate.Gate;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/// Reads the parameters of one model out of its stored weights. Every number is copied once, from
/// the mapped file into a float32 tensor. Every stored tensor is used, known to say what is known
/// anyway, or told; else the model is refused.
final class WeightReader {
  private static final String EMBEDDING = "model.embed_tokens.weight";
  private static final String HEAD = "lm_head.weight";
  private static final String FREQUENCIES = "rotary_emb.inv_freq";

  private static final Pattern EXPERT =
      Pattern.compile(
          "(?<all>model\\.layers\\.\\d+\\.mlp\\.experts\\.)(?<expert>\\d+)\\.(?<part>gate|up|down)_proj\\.weight");

  private static final Pattern DELTA =
      Pattern.compile(
          "model\\.layers\\.(?<layer>\\d+)\\.linear_attn\\.(?<part>conv1d\\.weight|in_proj_\\w+\\.weight)");

  private final Path directory;
  private final ModelConfig config;
  private final StoredWeights stored;
  private final DecoderConfig decoder;
  private final List<String> notes = new ArrayList<>();

  WeightReader(Path directory, ModelConfig config, StoredWeights stored) {
    this.directory = directory;
    this.config = config;
    this.stored = stored;
    this.notes.addAll(stored.notes());
    requireCounts();
    this.decoder = config.decoder().withTieWordEmbeddings(isTied());
  }

  /// The model, which may have an output matrix of its own where its configuration says otherwise.
  DecoderConfig decoder() {
    return decoder;
  }

  List<String> notes() {
    return notes;
  }

  /// All parameters in order, on that device; the caller's scope holds them.
  Map<String, Tensor> read(Device device) {
    Map<String, Tensor> tensors = new LinkedHashMap<>();
    decoder
        .parameters()
        .forEach(
            (name, spec) -> {
              try (var scope = Scope.open()) {
                tensors.put(name, scope.keep(read(name, spec.shape()).to(device)));
              }
            });
    judgeTheRest();
    return tensors;
  }

  // ---------------------------------------------------------------- before anything is made

  /// Refuses numbers of layers and experts that the weights do not have, before they are counted
  /// through.
  private void requireCounts() {
    int layers = config.decoder().layers().size();
    int found = stored.layers();
    if (found > 0 && found != layers) {
      throw new InvalidInputException(
          "num_hidden_layers is %d in %s but the weights hold %d layers; correct the config or fetch the weights again"
              .formatted(layers, directory.resolve(ModelConfig.FILE), found));
    }
    int experts = config.decoder().feedForward().experts().count();
    int separate = stored.separateExperts();
    if (separate > 0 && experts > 0 && separate != experts) {
      throw new InvalidInputException(
          "num_experts is %d in %s but the weights hold %d experts a layer; correct the config or fetch the weights again"
              .formatted(experts, directory.resolve(ModelConfig.FILE), separate));
    }
  }

  /// Whether the output matrix is the embedding. Of two that differ both are kept, as
  /// `transformers` does (`modeling_utils.py`, `tie_weights`), whatever the configuration says.
  private boolean isTied() {
    if (!config.decoder().tieWordEmbeddings()) {
      if (!stored.has(HEAD) && stored.has(EMBEDDING)) {
        throw new InvalidInputException(
            "the weights in %s hold no '%s', and %s does not say that tie_word_embeddings is true; say so if the embedding is the output matrix, or fetch the checkpoint again"
                .formatted(directory, HEAD, ModelConfig.FILE));
      }
      return false;
    }
    if (!stored.has(HEAD)) {
      return true;
    }
    if (!stored.has(EMBEDDING)) {
      notes.add(
          "%s: tie_word_embeddings is true and the weights hold %s alone; it is the embedding too"
              .formatted(directory.resolve(ModelConfig.FILE), Listing.quoted(stored.stored(HEAD))));
      return true;
    }
    long[] shape = {config.decoder().vocabSize(), config.decoder().hiddenSize()};
    if (haveSameNumbers(stored.take(EMBEDDING, shape, ""), stored.take(HEAD, shape, ""))) {
      return true;
    }
    notes.add(
        "%s: tie_word_embeddings is true, but %s holds numbers other than the embedding's; it is kept, as transformers does"
            .formatted(directory.resolve(ModelConfig.FILE), Listing.quoted(stored.stored(HEAD))));
    return false;
  }

  private static boolean haveSameNumbers(Entry one, Entry other) {
    if (one.type() == other.type()) {
      return one.data().mismatch(other.data()) < 0;
    }
    try (var _ = Scope.open()) {
      return float32(one).memory().mismatch(float32(other).memory()) < 0;
    }
  }

  // ---------------------------------------------------------------- parameters

  private Tensor read(String name, long[] shape) {
    Gate gate = config.packedGate();
    if (gate != null && (name.endsWith(QUERY) || name.endsWith(GATE))) {
      return packed(name, shape, gate);
    }
    Matcher delta = DELTA.matcher(name);
    if (delta.matches()) {
      return ofDeltaNet(delta, name, shape);
    }
    Matcher expert = EXPERT.matcher(name);
    if (expert.matches() && !stored.has(name)) {
      Tensor fused = ofFused(expert, shape);
      if (fused != null) {
        return fused;
      }
    }
    boolean fromHead =
        name.equals(EMBEDDING)
            && decoder.tieWordEmbeddings()
            && !stored.has(EMBEDDING)
            && stored.has(HEAD);
    Entry entry = stored.take(fromHead ? HEAD : name, shape, gateHint(name, shape));
    var tensor = float32(entry);
    requireFinite(entry, tensor);
    entry.data().unload(); // what was copied need not stay in memory twice
    return tensor;
  }

  /// A DeltaNet layer's parameter, which the file has otherwise.
  private Tensor ofDeltaNet(Matcher name, String whole, long[] shape) {
    var net = net(Integer.parseInt(name.group("layer")));
    String part = name.group("part");
    if (part.equals("conv1d.weight")) {
      long[] stored = {shape[0], 1, shape[1]};
      return float32(this.stored.take(whole, stored, "")).reshape(shape);
    }
    if (config.form() != StoredForm.QWEN3_NEXT) {
      return float32(stored.take(whole, shape, ""));
    }
    var rows = DeltaPacking.rows(net.heads(), part);
    String packedName = whole.replace(part, rows.stored());
    Entry entry = stored.take(packedName, new long[] {rows.of(), net.hiddenSize()}, "");
    var tensor = uninitialized(shape);
    long width = net.hiddenSize();
    for (int row = 0; row < rows.rows().length; row++) {
      copy(entry, rows.rows()[row] * width, tensor, row * width, width);
    }
    requireFinite(entry, tensor);
    return tensor;
  }

  private GatedDeltaNetConfig net(int layer) {
    return switch (decoder.layers().get(layer).mixer()) {
      case MixerConfig.DeltaNet(var net) -> net;
      case MixerConfig.SoftmaxAttention _ ->
          throw new IllegalStateException("layer " + layer + " is no DeltaNet");
    };
  }

  private static Tensor float32(Entry entry) {
    var tensor = uninitialized(entry.shape().stream().mapToLong(Long::longValue).toArray());
    Float32Copy.copy(entry.data(), entry.type(), tensor.memory());
    return tensor;
  }

  private static Tensor uninitialized(long... shape) {
    return Tensor.uninitialized(Tensor.zeros(ElementType.FLOAT32, 1), ElementType.FLOAT32, shape);
  }

  /// The rows of a `q_proj` that holds a gate too which are those of the queries, or the gate's.
  private Tensor packed(String name, long[] shape, Gate gate) {
    var packing = config.packing();
    long[] packedShape = {
      packing.queryProjectionRows(decoder.attention(), gate.granularity()), decoder.hiddenSize()
    };
    String packedName = name.replace(GATE, QUERY);
    Entry entry = stored.take(packedName, packedShape, gateHint(packedName, packedShape));
    long[] rows =
        name.endsWith(QUERY)
            ? packing.queryRows(decoder.attention(), gate.granularity())
            : packing.gateRowsPacked(decoder.attention(), gate.granularity());
    var tensor = uninitialized(shape);
    long width = decoder.hiddenSize();
    for (int row = 0; row < rows.length; row++) {
      copy(entry, rows[row] * width, tensor, row * width, width);
    }
    requireFinite(entry, tensor);
    return tensor;
  }

  /// One expert's matrix out of a layer's tensor of all, `gate_up_proj` `[E, 2I, D]` (gate before
  /// up) or `down_proj` `[E, D, I]` (`modeling_qwen3_moe.py`, `Qwen3MoeExperts`); null where there
  /// is no such tensor.
  private @Nullable Tensor ofFused(Matcher expert, long[] shape) {
    boolean down = expert.group("part").equals("down");
    String name = expert.group("all") + (down ? "down_proj" : "gate_up_proj");
    if (!stored.has(name)) {
      name += ".weight";
      if (!stored.has(name)) {
        return null;
      }
    }
    long experts = decoder.feedForward().experts().count();
    long[] all = {experts, down ? shape[0] : 2 * shape[0], shape[1]};
    Entry entry =
        stored.take(
            name,
            all,
            " ([experts, %s], as transformers has it)"
                .formatted(down ? "hidden, width" : "2 * width, hidden"));
    var tensor = uninitialized(shape);
    long half = expert.group("part").equals("up") ? 1 : 0;
    long each = all[1] * all[2];
    long number = Long.parseLong(expert.group("expert"));
    copy(entry, number * each + half * tensor.elements(), tensor, 0, tensor.elements());
    requireFinite(entry, tensor);
    return tensor;
  }

  private static void copy(Entry entry, long from, Tensor to, long start, long elements) {
    Float32Copy.copy(
        slice(entry.data(), from, elements, entry.type().bytes()),
        entry.type(),
        slice(to.memory(), start, elements, Float.BYTES));
  }

  private static MemorySegment slice(MemorySegment data, long from, long elements, int bytes) {
    return data.asSlice(from * bytes, elements * bytes);
  }

  /// The file's numbers were finite; float64 has some that float32 has not.
  private void requireFinite(Entry entry, Tensor tensor) {
    if (entry.type() == ElementType.FLOAT64
        && FiniteNumbers.firstOther(tensor.memory(), ElementType.FLOAT32) >= 0) {
      throw new InvalidInputException(
          "the tensor %s in %s holds numbers of F64 that are too large for float32, in which Sluice computes; use another checkpoint"
              .formatted(Listing.quoted(entry.name()), directory));
    }
  }

  private String gateHint(String name, long[] expected) {
    long[] found = stored.shape(name);
    return name.endsWith(QUERY) && found.length == 2 && found[0] > expected[0]
        ? " (more rows look like a packed gate: say headwise_attn_output_gate or"
            + " elementwise_attn_output_gate, and gate_packing key_value_group or query_head,"
            + " since the shape alone does not tell)"
        : "";
  }

  // ---------------------------------------------------------------- what no parameter is

  private void judgeTheRest() {
    List<String> unknown = new ArrayList<>();
    List<String> frequencies = new ArrayList<>();
    for (String name : stored.left()) {
      if (!name.endsWith(FREQUENCIES)) {
        unknown.add(stored.stored(name));
      } else if (!areOurFrequencies(stored.entry(name))) {
        frequencies.add(stored.stored(name));
      }
    }
    if (!unknown.isEmpty()) {
      throw new InvalidInputException(
          "the weights in %s hold %s, which %s does not call for; correct the config, or remove what is no part of the model"
              .formatted(directory, Listing.of(unknown), ModelConfig.FILE));
    }
    if (!frequencies.isEmpty()) {
      notes.add(
          "the weights in %s hold %s, frequencies other than those of %s; the latter are used, as transformers does"
              .formatted(directory, Listing.of(frequencies), ModelConfig.FILE));
    }
  }

  /// Whether stored rotary frequencies are those that the configuration gives, within what their
  /// type can hold.
  private boolean areOurFrequencies(Entry entry) {
    var turning = decoder.attention().positions().rotary();
    if (turning.isEmpty()) {
      return false;
    }
    var rotary = turning.get();
    float[] ours =
        rotary.scaling().inverseFrequencies(rotary.theta(), decoder.attention().headDim());
    if (!entry.type().isFloatingPoint() || !entry.shape().equals(List.of((long) ours.length))) {
      return false;
    }
    double share =
        switch (entry.type()) {
          case BFLOAT16 -> 1.0 / 128;
          case FLOAT16 -> 1.0 / 512;
          case FLOAT32, FLOAT64, INT64, INT32, UINT8, BOOL -> 1e-5;
        };
    try (var _ = Scope.open()) {
      float[] theirs = float32(entry).memory().toArray(ValueLayout.JAVA_FLOAT);
      for (int i = 0; i < ours.length; i++) {
        // float16 holds small numbers to 2^-24 at best
        if (!(Math.abs(ours[i] - theirs[i]) <= share * Math.abs(ours[i]) + 1e-7)) {
          return false;
        }
      }
      return true;
    }
  }
}
