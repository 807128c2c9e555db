package dev.sluice.checkpoint;

import static dev.sluice.checkpoint.ModelDirectory.QUERY;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.Family.Parameter;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.MultiTokenPrediction;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.ParameterSpec;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/// Reads the parameters of one model out of its stored weights. Every number is copied once, from
/// the mapped file into a float32 tensor. Every stored tensor is used, known to say what is known
/// anyway, or told; else the model is refused.
final class WeightReader implements ParameterReader {
  private static final String EMBEDDING = "model.embed_tokens.weight";
  private static final String HEAD = "lm_head.weight";
  private static final String FREQUENCIES = "rotary_emb.inv_freq";

  private final Path directory;

  /// The model's, with the block of a head that drafts where it is read too.
  private final ModelConfig config;

  private final StoredWeights stored;
  private final DecoderConfig decoder;
  private final boolean drafts;
  private final List<String> notes = new ArrayList<>();

  /// How many quantized matrices stay in few bits, by format, and how many do not, by the reason.
  private final Map<WeightFormat, Integer> keptAs = new TreeMap<>();

  private final Map<String, Integer> expanded = new TreeMap<>();

  /// The parameters that are float32 numbers of quantized matrices.
  private final Set<String> restored = new HashSet<>();

  WeightReader(Path directory, ModelConfig config, StoredWeights stored) {
    this(directory, config, stored, false);
  }

  /// @param drafts whether to read the head that drafts tokens too
  WeightReader(Path directory, ModelConfig config, StoredWeights stored, boolean drafts) {
    this.directory = directory;
    this.drafts = drafts;
    this.config = drafts ? config.with(MultiTokenPrediction.withBlock(config.decoder())) : config;
    this.stored = stored;
    this.notes.addAll(stored.notes());
    requireCounts();
    this.decoder = config.decoder().withTieWordEmbeddings(isTied());
  }

  /// The model, which may have an output matrix of its own where its configuration says otherwise.
  @Override
  public DecoderConfig decoder() {
    return decoder;
  }

  @Override
  public Map<String, ParameterSpec> parameters() {
    return ParameterReader.parameters(decoder, drafts);
  }

  @Override
  public List<String> notes() {
    return notes;
  }

  @Override
  public @Nullable StoredMatrix inPlace(Parameter parameter, @Nullable PackedMatrices copies) {
    if (stored.isQuantized(place(parameter).tensor())) {
      return copies == null ? null : kept(parameter, copies);
    }
    Entry entry = entry(parameter);
    var format = format(entry.type());
    return format == null
        ? null
        : place(parameter).stored(format, entry.data(), parameter.spec().shape(), copies);
  }

  @Override
  public @Nullable WeightFormat format(Parameter parameter) {
    return stored.isQuantized(place(parameter).tensor()) ? null : format(entry(parameter).type());
  }

  private @Nullable StoredMatrix kept(Parameter parameter, PackedMatrices copies) {
    var place = place(parameter);
    String name = place.tensor();
    var matrix = stored.takeQuantized(name, place.shape(), hint(place));
    long[] rows = place.storedRows(parameter.spec().shape(), matrix.isTurned());
    var kept =
        rows == null
            ? QuantizedMatrix.Kept.not("their rows do not stand together in the file")
            : matrix.kept(rows, copies);
    if (kept.matrix() == null) {
      expanded.merge(kept.why(), 1, Integer::sum);
    } else {
      stored.kept(matrix);
      restored.remove(parameter.name()); // its numbers were looked at alone
      keptAs.merge(kept.matrix().format(), 1, Integer::sum);
    }
    return kept.matrix();
  }

  private static @Nullable WeightFormat format(ElementType type) {
    return switch (type) {
      case FLOAT32 -> WeightFormat.F32;
      case FLOAT16 -> WeightFormat.F16;
      case BFLOAT16 -> WeightFormat.BF16;
      case FLOAT64, INT64, INT32, UINT8, BOOL -> null;
    };
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
    stored
        .separateExperts()
        .forEach(
            (layer, separate) -> {
              int experts =
                  layer < layers
                      ? config.decoder().layers().get(layer).feedForward().experts().count()
                      : 0;
              if (experts > 0 && separate != experts) {
                throw new InvalidInputException(
                    "num_experts is %d in %s but the weights hold %d experts a layer; correct the config or fetch the weights again"
                        .formatted(experts, directory.resolve(ModelConfig.FILE), separate));
              }
            });
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

  @Override
  public Tensor read(Parameter parameter) {
    var place = place(parameter);
    Entry entry = entry(parameter);
    var tensor = ParameterReader.uninitialized(parameter.spec().shape());
    place.read(entry, tensor);
    requireFinite(entry, tensor);
    if (stored.isQuantized(place.tensor())) {
      restored.add(parameter.name());
    }
    if (place.isWhole(tensor.elements()) && entry.data().isMapped()) {
      entry.data().unload(); // what was copied need not stay in memory twice
    }
    return tensor;
  }

  /// The stored tensor that a parameter is read from, once it is known to be what the model needs.
  Entry entry(Parameter parameter) {
    var place = place(parameter);
    boolean fromHead =
        parameter.name().equals(EMBEDDING)
            && decoder.tieWordEmbeddings()
            && !stored.has(EMBEDDING)
            && stored.has(HEAD);
    String name = fromHead ? HEAD : place.tensor();
    return stored.take(name, place.shape(), hint(place));
  }

  private String hint(Placement place) {
    return place.hint() + gateHint(place.tensor(), place.shape());
  }

  private Placement place(Parameter parameter) {
    return config.family().places(config, parameter).get(form(parameter));
  }

  /// At which of its places a parameter stands.
  int form(Parameter parameter) {
    var places = config.family().places(config, parameter);
    for (int i = 0; i < places.size(); i++) {
      if (stored.has(places.get(i).tensor())) {
        return i;
      }
    }
    return 0;
  }

  private static Tensor float32(Entry entry) {
    var tensor =
        ParameterReader.uninitialized(entry.shape().stream().mapToLong(Long::longValue).toArray());
    Float32Copy.copy(entry.data(), entry.type(), tensor.memory());
    return tensor;
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

  @Override
  public void judgeTheRest() {
    if (!keptAs.isEmpty()) {
      notes.add(
          "quantized matrices stay in as many bits as they have: "
              + keptAs.entrySet().stream()
                  .map(each -> "%d as %s".formatted(each.getValue(), each.getKey().word()))
                  .collect(Collectors.joining(", ")));
    }
    int others = restored.size() - expanded.values().stream().mapToInt(Integer::intValue).sum();
    if (others > 0) {
      notes.add("%d quantized matrices are read as float32 numbers".formatted(others));
    }
    expanded.forEach(
        (why, count) ->
            notes.add("%d quantized matrices become float32, since %s".formatted(count, why)));
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
    float[] ours =
        decoder
            .firstAttention()
            .flatMap(
                attention ->
                    attention
                        .positions()
                        .rotary()
                        .map(rotary -> rotary.inverseFrequencies(attention.headDim(), 1)))
            .orElse(new float[0]);
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
