package dev.sluice.tensor;

import java.util.List;
import org.bytedeco.pytorch.Dispatcher;
import org.bytedeco.pytorch.IValue;
import org.bytedeco.pytorch.IValueVector;
import org.bytedeco.pytorch.OperatorHandle;

/// libtorch's causal attention for the CPU, joined to autograd by hand so that both its passes run
/// without nested BLAS threads.
final class FlashAttention {
  private static final OperatorHandle FORWARD =
      find("aten::_scaled_dot_product_flash_attention_for_cpu");
  private static final OperatorHandle BACKWARD =
      find("aten::_scaled_dot_product_flash_attention_for_cpu_backward");

  private FlashAttention() {}

  private static OperatorHandle find(String name) {
    OperatorHandle handle = Dispatcher.singleton().findSchemaOrThrow(name, "");
    handle.retainReference(); // outlives the scope that happens to be open
    return handle;
  }

  /// Causal attention of queries, keys and values `[B, N, T, H]` each, float32.
  static Tensor causal(Tensor query, Tensor key, Tensor value) {
    try (var scope = Scope.open()) {
      Tensor output;
      Tensor detached;
      Tensor logSumExp;
      try (var forward = Scope.withoutGradient()) {
        var results =
            call(
                FORWARD,
                new IValue(query.raw),
                new IValue(key.raw),
                new IValue(value.raw),
                new IValue(0.0), // dropout
                new IValue(true), // causal
                new IValue(), // mask
                new IValue()); // scale
        output = forward.keep(tensor(results, 0));
        detached = forward.keep(output.detach());
        logSumExp = forward.keep(tensor(results, 1));
      }
      return scope.keep(
          FusedOp.apply(
              List.of(query, key, value),
              List.of(query, key, value, detached, logSumExp),
              () -> output,
              upstream -> {
                var gradients =
                    call(
                        BACKWARD,
                        new IValue(upstream.raw),
                        new IValue(query.raw),
                        new IValue(key.raw),
                        new IValue(value.raw),
                        new IValue(detached.raw),
                        new IValue(logSumExp.raw),
                        new IValue(0.0),
                        new IValue(true),
                        new IValue(),
                        new IValue());
                return new Tensor[] {
                  tensor(gradients, 0), tensor(gradients, 1), tensor(gradients, 2)
                };
              }));
    }
  }

  private static Tensor tensor(IValueVector results, long index) {
    return new Tensor(new org.bytedeco.pytorch.Tensor(results.get(index).toTensor()));
  }

  private static IValueVector call(OperatorHandle operator, IValue... arguments) {
    return BlasThreads.withOne(
        () -> {
          var stack = new IValueVector(arguments);
          Dispatcher.singleton().callBoxed(operator, stack);
          return stack;
        });
  }
}
