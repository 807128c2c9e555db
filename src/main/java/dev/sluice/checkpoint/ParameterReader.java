package dev.sluice.checkpoint;

import dev.sluice.checkpoint.Family.Parameter;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// Reads the parameters of one model out of its files, whatever these are.
interface ParameterReader {
  /// The model.
  DecoderConfig decoder();

  /// What was decided on the way, in sentences for the user.
  List<String> notes();

  /// One parameter, float32 on the CPU, once its stored numbers are known to be what the model
  /// needs.
  Tensor read(Parameter parameter);

  /// Refuses or tells what is left once all parameters are read.
  void judgeTheRest();

  /// All parameters in order, on that device; the caller's scope holds them.
  default Map<String, Tensor> read(Device device) {
    Map<String, Tensor> tensors = new LinkedHashMap<>();
    decoder()
        .parameters()
        .forEach(
            (name, spec) -> {
              try (var scope = Scope.open()) {
                tensors.put(name, scope.keep(read(Parameter.of(name, spec)).to(device)));
              }
            });
    judgeTheRest();
    return tensors;
  }

  /// A float32 tensor to be filled.
  static Tensor uninitialized(long... shape) {
    return Tensor.uninitialized(Tensor.zeros(ElementType.FLOAT32, 1), ElementType.FLOAT32, shape);
  }
}
