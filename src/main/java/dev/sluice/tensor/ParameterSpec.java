package dev.sluice.tensor;

import java.util.Arrays;

/// What a module declares of a learned tensor, before there is one. Whoever counts, plans, makes or
/// reads parameters asks these, and never a parameter's name.
///
/// @param shape lengths of the dimensions; a weight of a matrix product has two
/// @param initial how a new one begins
/// @param trained whether training moves it
/// @param maps the rows of each matrix in it that maps features to features, from the first row on:
///   one, or several that stand one below the other, such as a layer's queries, keys and values. An
///   optimizer of matrices ([dev.sluice.optimizer.Muon]) takes each for itself, so what is packed
///   into one tensor is told apart here. Empty for all else, which is moved number by number:
///   vectors, a row for each token of the vocabulary, rows that give one number each (of a headwise
///   gate, of a router), the weights of single channels (of a short convolution)
public record ParameterSpec(long[] shape, Initial initial, boolean trained, long[] maps) {
  public ParameterSpec {
    if (maps.length > 0 && (shape.length != 2 || Arrays.stream(maps).sum() != shape[0])) {
      throw new IllegalArgumentException(
          "maps of %s rows do not make up %s"
              .formatted(Arrays.toString(maps), Arrays.toString(shape)));
    }
  }

  /// One that training moves, number by number.
  public ParameterSpec(long[] shape, Initial initial) {
    this(shape, initial, true, new long[0]);
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

  /// A matrix that maps features to features, whose elements are N(0, σ²).
  public static ParameterSpec map(long outputs, long inputs) {
    return drawn(outputs, inputs).asMaps(outputs);
  }

  /// One whose elements all begin alike.
  public static ParameterSpec constant(double value, long... shape) {
    return new ParameterSpec(shape, new Initial.Constant(value));
  }

  /// The same, which training leaves as it is: no gradient is computed for it.
  public ParameterSpec untrained() {
    return new ParameterSpec(shape, initial, false, maps);
  }

  /// The same as maps of features with these rows, one below the other.
  public ParameterSpec asMaps(long... rows) {
    return new ParameterSpec(shape, initial, trained, rows);
  }

  /// The same as maps of features that have so many rows each.
  public ParameterSpec asMapsOf(long rows) {
    long[] each = new long[Math.toIntExact(shape[0] / rows)];
    Arrays.fill(each, rows);
    return asMaps(each);
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
