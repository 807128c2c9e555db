package dev.sluice.tensor;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.bytedeco.pytorch.Dispatcher;
import org.bytedeco.pytorch.GenericList;
import org.bytedeco.pytorch.IValue;
import org.bytedeco.pytorch.IValueVector;
import org.bytedeco.pytorch.OperatorHandle;
import org.bytedeco.pytorch.TensorType;
import org.bytedeco.pytorch.Type;
import org.bytedeco.pytorch.global.torch;
import org.jspecify.annotations.Nullable;

/// An operation of libtorch that the preset has no method for, called by its name through the
/// dispatcher. Automatic differentiation takes part as in any other call.
///
/// What an operation writes to lists of tensors libtorch does not count in their versions: who
/// calls one that does says [Tensor#changed].
record NamedOperation(String name, String overload) {
  /// A tensor that is not there, where the schema demands one.
  static final Object UNDEFINED = new Object();

  private static final Map<NamedOperation, OperatorHandle> FOUND = new ConcurrentHashMap<>();

  /// The operation `aten::name`.
  static NamedOperation of(String name) {
    return new NamedOperation(name, "");
  }

  /// Calls it with every argument of its schema, those with defaults too.
  ///
  /// @param arguments [Tensor], list of tensors, [Double], [Long], [Boolean], [#UNDEFINED], or null
  ///   for an optional one that is absent
  /// @return the tensors of the result, lists of them one after the other
  List<Tensor> call(@Nullable Object... arguments) {
    Libtorch.load();
    var handle = FOUND.computeIfAbsent(this, NamedOperation::find);
    try (var scope = Scope.open()) {
      var stack = new IValueVector();
      for (var argument : arguments) {
        stack.push_back(boxed(argument));
      }
      handle.callBoxed(stack);
      var results = new ArrayList<Tensor>();
      for (long i = 0; i < stack.size(); i++) {
        var value = stack.get(i);
        if (value.isTensor() && value.toTensor().defined()) { // not what was not asked for
          results.add(scope.keep(new Tensor(new org.bytedeco.pytorch.Tensor(value.toTensor()))));
        } else if (value.isTensorList()) {
          var list = value.toTensorVector();
          for (long j = 0; j < list.size(); j++) {
            results.add(scope.keep(new Tensor(new org.bytedeco.pytorch.Tensor(list.get(j)))));
          }
        }
      }
      return results;
    }
  }

  private OperatorHandle find() {
    var handle = Dispatcher.singleton().findSchemaOrThrow("aten::" + name, overload);
    handle.retainReference(); // else the scope that happens to be open frees it
    return handle;
  }

  private static IValue boxed(@Nullable Object argument) {
    return switch (argument) {
      case null -> new IValue();
      case Tensor tensor -> new IValue(tensor.raw());
      case Double number -> new IValue(number.doubleValue());
      case Long number -> new IValue(number.longValue());
      case Boolean flag -> new IValue(flag.booleanValue());
      case List<?> tensors -> list(tensors);
      case Object other when other == UNDEFINED -> new IValue(new org.bytedeco.pytorch.Tensor());
      default -> throw new IllegalArgumentException("no argument of an operation: " + argument);
    };
  }

  private static IValue list(List<?> tensors) {
    var type = new Type.TypePtr(TensorType.create(torch.empty(0)));
    var list = new GenericList(type);
    list.reserve(tensors.size());
    for (var tensor : tensors) {
      list.push_back(new IValue(((Tensor) tensor).raw()));
    }
    return new IValue(list);
  }
}
