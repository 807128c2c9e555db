package dev.sluice.kernel;

/// How the numbers that a matrix is multiplied with stand in memory, for weights of a format.
///
/// **Plain weights** and those of `E4M3` are multiplied in float32, and so are their inputs, 64 to
/// a group, with zeros after the last.
///
/// **Weights in blocks** are small integers, and so become the inputs: of 16 or 32 columns that
/// share a scale of the weights, `x[c] ≈ scale · k[c]` with `scale = max |x| / largest` and k the
/// nearest integer, of one or two signed bytes. Two are `k = 256 · high + low`. A processor
/// multiplies them with unsigned bytes of weights, four products to a sum of 32 bits; nothing is
/// rounded until a sum leaves the integers. So an input is wrong by half a scale at most: with two
/// bytes 2⁻¹⁶ of the largest of its part, with one 2⁻⁸; or by less than the smallest normal float32
/// where all are as small. Where one is infinite or NaN, the scale is NaN. From 2¹¹⁸ on, a sum may
/// be infinite that is not.
///
/// A group is a block of 256 columns or four blocks of 32, in steps. A step has a lane of 16 bytes
/// for each of four parts, in one or two vectors: these vectors' bytes for each digit from the
/// highest, then the parts' scales, each four times as float32, then 16 sums, one for each four
/// bytes of the lanes: the integers `−zero · Σ k` where a number `zero` was added to the weights to
/// make them unsigned, or the float32 numbers `scale · Σ k` where weights have a minimum.
///
/// For weights in strips the 16 or 32 bytes of a part stand beside each other in a digit's vectors,
/// and each sum is that of its whole part, four times the same.
///
/// @param columns of a group
/// @param steps of a group
/// @param vectors of a step; 0 for plain weights
/// @param digits the bytes of an integer that an input becomes
/// @param zero the logarithm to base 2 of what was added to the weights, or [#MINIMUM]
/// @param byParts whether it is for weights in strips
record InputLayout(int columns, int steps, int vectors, int digits, int zero, boolean byParts) {
  private InputLayout(int columns, int steps, int vectors, int zero) {
    this(columns, steps, vectors, 2, zero, false);
  }

  static final int MINIMUM = -1;

  private static final InputLayout PLAIN = new InputLayout(64, 1, 0, 0);

  /// Whether there are kernels for this format.
  static boolean isKnown(WeightFormat format) {
    return format != WeightFormat.TQ1_0;
  }

  /// That for weights in the order of rows, with two digits.
  static InputLayout of(WeightFormat format) {
    return switch (format) {
      case F32, F16, BF16, E4M3 -> PLAIN;
      case Q8_0, IQ4_NL -> new InputLayout(128, 1, 2, 7);
      case Q4_0 -> new InputLayout(128, 1, 2, 3);
      case Q5_0, MXFP4, I4_32, I4_64, I4_128 -> new InputLayout(128, 1, 2, 4);
      case Q4_1, Q5_1 -> new InputLayout(128, 1, 2, MINIMUM);
      case Q4_K, Q5_K -> new InputLayout(256, 2, 2, MINIMUM);
      case IQ4_XS -> new InputLayout(256, 2, 2, 7);
      case Q2_K -> new InputLayout(256, 4, 1, MINIMUM);
      case TQ2_0 -> new InputLayout(256, 4, 1, 0);
      case Q3_K -> new InputLayout(256, 4, 1, 2);
      case Q6_K -> new InputLayout(256, 4, 1, 5);
      case TQ1_0 -> throw new IllegalArgumentException("no kernel for " + format);
    };
  }

  /// That for weights in an order.
  ///
  /// @param digits of an input, where weights are in blocks
  static InputLayout of(WeightFormat format, StoredMatrix.Order order, int digits) {
    var layout = of(format);
    boolean inStrips = order == StoredMatrix.Order.STRIPS;
    return layout.vectors == 0
        ? layout
        : new InputLayout(
            layout.columns, layout.steps, layout.vectors, digits, layout.zero, inStrips);
  }

  /// What is added to an integer so that its bytes can be cut apart: each is then 128 too large.
  int unsigned() {
    return digits == 1 ? 0x80 : 0x8080;
  }

  /// The largest integer that an input becomes.
  int largest() {
    return (digits == 1 ? 0xFF : 0xFFFF) - unsigned();
  }

  /// The bytes of a step of one input.
  int stepBytes() {
    return vectors == 0 ? columns * Float.BYTES : 64 * (digits * vectors + 2);
  }

  /// The bytes of a group of one input.
  int bytes() {
    return steps * stepBytes();
  }

  /// Where a vector of digits begins in a step.
  ///
  /// @param digit 0 for the highest
  int digit(int digit, int vector) {
    return 64 * (digit * vectors + vector);
  }

  /// Where 16 bytes of a part begin in a step.
  ///
  /// @param digit 0 for the highest
  int digit(int digit, int vector, int lane) {
    int place = byParts ? vectors * lane + vector : 4 * vector + lane;
    return digit(digit, 0) + 16 * place;
  }

  /// Where the scales begin in a step.
  int scales() {
    return 64 * digits * vectors;
  }

  /// Where the sums begin in a step.
  int sums() {
    return scales() + 64;
  }

  int scales(int lane) {
    return scales() + 16 * lane;
  }

  int sums(int lane) {
    return sums() + 16 * lane;
  }

  /// The column of the group from which 16 stand in a lane.
  int column(int step, int lane, int vector) {
    return vectors == 2
        ? 32 * (steps * lane + step) + 16 * vector // of the four parts whose turn it is
        : 64 * step + 16 * lane;
  }
}
