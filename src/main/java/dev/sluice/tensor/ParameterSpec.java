package dev.sluice.tensor;

import java.util.Arrays;

/// What a module declares of a learned tensor, before there is one. Whoever counts, plans, makes or
/// reads parameters asks these, and never a parameter's name.
///
/// @param shape lengths of the dimensions; a weight of a matrix product has two
/// @param initial how a new one begins
/// @param trained whether training moves it
public record ParameterSpec(long[] shape, Initial initial, boolean trained) {
  /// One that training moves.
  public ParameterSpec(long[] shape, Initial initial) {
    this(shape, initial, true);
  }

  /// The first values of a parameter.
  public sealed interface Initial {
    /// N(0, σ²) with the model's σ.
    record Normal() implements Initial {}

    /// All alike.
    record Constant(double value) implements Initial {}

    /// Natural logarithms of numbers that are uniform between two bounds.
    record LogOfUniform(double least, double most) implements Initial {}

    /// Numbers whose softplus is between two bounds, with logarithms that are uniform.
    record SoftplusOfLogUniform(double least, double most) implements Initial {}
  }

  /// One whose elements are N(0, σ²).
  public static ParameterSpec drawn(long... shape) {
    return new ParameterSpec(shape, new Initial.Normal());
  }

  /// One whose elements all begin alike.
  public static ParameterSpec constant(double value, long... shape) {
    return new ParameterSpec(shape, new Initial.Constant(value));
  }

  /// The same, which training leaves as it is: no gradient is computed for it.
  public ParameterSpec untrained() {
    return new ParameterSpec(shape, initial, false);
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
    return Arrays.toString(shape) + " " + initial + (trained ? "" : ", not trained");
  }
}
