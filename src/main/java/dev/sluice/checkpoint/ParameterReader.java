package dev.sluice.checkpoint;

import dev.sluice.checkpoint.Family.Parameter;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.MultiTokenPrediction;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.ParameterSpec;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// Reads the parameters of one model out of its files, whatever these are.
interface ParameterReader {
  String TOKENS = "model.embed_tokens.weight";
  String LOGITS = "lm_head.weight";

  /// Matrices with a row for each token.
  Set<String> TABLES = Set.of(TOKENS, LOGITS);

  /// What names of experts' matrices have in them.
  String EXPERTS = ".experts.";

  /// The model.
  DecoderConfig decoder();

  /// What is to be read: the model's parameters, and those of a head that drafts where it is
  /// wanted.
  Map<String, ParameterSpec> parameters();

  /// What was decided on the way, in sentences for the user.
  List<String> notes();

  /// One parameter, float32 on the CPU, once its stored numbers are known to be what the model
  /// needs.
  Tensor read(Parameter parameter);

  /// A matrix in as many bits as it has in its file, where it stands there if products read it so;
  /// or null.
  ///
  /// @param copies takes one that has to be copied; null leaves such a one
  @Nullable StoredMatrix inPlace(Parameter parameter, @Nullable PackedMatrices copies);

  /// The format of ours in which a matrix is stored; null where it has to be made of several
  /// tensors, or is in none.
  @Nullable WeightFormat format(Parameter parameter);

  /// Refuses or tells what is left once all parameters are read.
  void judgeTheRest();

  /// All parameters in order, on that device; the caller's scope holds them.
  default Map<String, Tensor> read(Device device) {
    Map<String, Tensor> tensors = new LinkedHashMap<>();
    parameters()
        .forEach(
            (name, spec) -> {
              try (var scope = Scope.open()) {
                tensors.put(name, scope.keep(read(Parameter.of(name, spec)).to(device)));
              }
            });
    judgeTheRest();
    return tensors;
  }

  /// All parameters in order: matrices in the format of the file, where they stand there if they
  /// can be read so, else copied; the others as float32 on the CPU, and so that products take them
  /// in the same way what is a matrix in no format of ours.
  ///
  /// @param rounded brings them into a format of fewer bits; null leaves them
  /// @param packed takes those that products read faster in another order
  /// @param listener hears how far it is
  default List<Weight> readInPlace(
      @Nullable RoundedMatrices rounded, PackedMatrices packed, Conversion.Listener listener) {
    List<Weight> weights = new ArrayList<>();
    long total = parameters().values().stream().mapToLong(ParameterSpec::elements).sum();
    long[] done = {0};
    parameters()
        .forEach(
            (name, spec) -> {
              var parameter = Parameter.of(name, spec);
              var matrix = spec.isMatrix() ? matrix(parameter, rounded, packed) : null;
              if (matrix != null) {
                weights.add(new Weight(name, spec, matrix));
              } else if (spec.isMatrix()) {
                weights.add(Weight.toRun(name, spec, read(parameter)));
              } else {
                weights.add(new Weight(name, spec, read(parameter)));
              }
              done[0] += spec.elements();
              if (rounded != null) {
                listener.advanced("rounding", Float.BYTES * done[0], Float.BYTES * total);
              }
            });
    judgeTheRest();
    packed.requireRounding();
    return weights;
  }

  private @Nullable StoredMatrix matrix(
      Parameter parameter, @Nullable RoundedMatrices rounded, PackedMatrices packed) {
    String name = parameter.name();
    var spec = parameter.spec();
    var format = rounded == null ? null : format(parameter);
    boolean givesLogits = name.equals(decoder().tieWordEmbeddings() ? TOKENS : LOGITS);
    boolean isMap = spec.maps().length > 0;
    if (rounded != null && (isMap || TABLES.contains(name))) {
      var has = format == null ? WeightFormat.F32 : format;
      if (rounded.takes(has, givesLogits, spec.shape()[1])) {
        try (var _ = Scope.open()) {
          return packed.inPrecision(rounded.round(name, read(parameter), givesLogits));
        }
      }
    }
    if (!isMap && !TABLES.contains(name)) {
      try (var _ = Scope.open()) {
        var _ = read(parameter); // routers, rates and such are small: all numbers are looked at
      }
    }
    // who rounds reads what several tensors make as numbers
    var matrix = inPlace(parameter, rounded == null || format != null ? packed : null);
    boolean isReadWhole = givesLogits || (isMap && !name.contains(EXPERTS));
    return matrix == null ? null : packed.take(matrix, isReadWhole);
  }

  /// A model's parameters, and where it drafts those of the head that does.
  static Map<String, ParameterSpec> parameters(DecoderConfig model, boolean drafts) {
    var parameters = new LinkedHashMap<>(model.parameters());
    if (drafts) {
      parameters.putAll(MultiTokenPrediction.parameters(model));
    }
    return parameters;
  }

  /// A float32 tensor to be filled.
  static Tensor uninitialized(long... shape) {
    return Tensor.uninitialized(Tensor.zeros(ElementType.FLOAT32, 1), ElementType.FLOAT32, shape);
  }
}
