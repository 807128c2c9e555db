package dev.sluice.tensor;

import java.util.Arrays;
import java.util.OptionalDouble;

/// What a module declares of a learned tensor, before there is one. Whoever counts, plans, makes or
/// reads parameters asks these, and never a parameter's name.
///
/// @param shape lengths of the dimensions; a weight of a matrix product has two
/// @param constant what all elements of a new one are; else they are drawn, N(0, σ²) with the
///   model's σ
public record ParameterSpec(long[] shape, OptionalDouble constant) {
  /// One whose elements are drawn.
  public static ParameterSpec drawn(long... shape) {
    return new ParameterSpec(shape, OptionalDouble.empty());
  }

  /// One whose elements all begin alike.
  public static ParameterSpec constant(double value, long... shape) {
    return new ParameterSpec(shape, OptionalDouble.of(value));
  }

  /// How many elements it has.
  ///
  /// @throws ArithmeticException if they cannot be counted
  public long elements() {
    return Arrays.stream(shape).reduce(1, Math::multiplyExact);
  }

  /// Whether tokens are multiplied with it, or looked up in it: it is a matrix.
  public boolean isMatrix() {
    return shape.length == 2;
  }

  @Override
  public String toString() {
    return Arrays.toString(shape) + (constant.isPresent() ? " of " + constant.getAsDouble() : "");
  }
}
