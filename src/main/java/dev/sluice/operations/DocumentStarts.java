package dev.sluice.operations;

import dev.sluice.tensor.Device;
import dev.sluice.tensor.Tensor;
import java.util.Arrays;
import java.util.OptionalInt;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/// Where the document of each token begins: an intra-document mask of a batch whose rows hold
/// several documents, one after the other.
///
/// Documents end with a separator, which is also what the next one starts with. So the document of
/// a token begins at the last separator at or before it, or at the row's first token where there is
/// none. A token sees itself and those before it down to that one, and nothing else.
///
/// Positions need no part in it: rotary embedding turns by differences of positions, and these are
/// the same wherever a document stands in its row.
public final class DocumentStarts implements AutoCloseable {
  private final int rows;
  private final int tokens;

  /// Within its row, of token t of row b at b · T + t; never falls along a row.
  private final int[] starts;

  // What a device takes, made by #bring, else when it is asked for.
  private @Nullable Tensor startsBT;
  private @Nullable Tensor bounds;

  private DocumentStarts(int rows, int tokens, int[] starts) {
    this.rows = rows;
    this.tokens = tokens;
    this.starts = starts;
  }

  /// The mask of a batch; null where there is no separator, so that documents are not told apart.
  ///
  /// @param ids row after row
  /// @param stride from a row to the next in `ids`; the tokens past the first T are not looked at
  /// @param tokens T
  /// @param separator id of the token between documents, or empty
  public static @Nullable DocumentStarts of(
      long[] ids, int rows, int stride, int tokens, OptionalInt separator) {
    if (rows < 1 || tokens < 1 || stride < tokens || ids.length < (rows - 1L) * stride + tokens) {
      throw new IllegalArgumentException(
          "no %d rows of %d tokens, %d apart, in %d ids"
              .formatted(rows, tokens, stride, ids.length));
    }
    if (separator.isEmpty()) {
      return null;
    }
    int[] starts = new int[rows * tokens];
    for (int row = 0; row < rows; row++) {
      int start = 0;
      for (int t = 0; t < tokens; t++) {
        start = ids[row * stride + t] == separator.getAsInt() ? t : start;
        starts[row * tokens + t] = start;
      }
    }
    return new DocumentStarts(rows, tokens, starts);
  }

  /// The first token that a token sees, counted within its row.
  public int start(long row, long token) {
    return starts[Math.toIntExact(row * tokens + token)];
  }

  /// The first token that any row's token there sees.
  long earliest(long token) {
    int earliest = tokens;
    for (int row = 0; row < rows; row++) {
      earliest = Math.min(earliest, start(row, token));
    }
    return earliest;
  }

  /// All starts, row after row; not to be changed.
  int[] all() {
    return starts;
  }

  /// The starts of a few tokens of a row.
  int[] of(long row, long from, long to) {
    int at = Math.toIntExact(row * tokens);
    return Arrays.copyOfRange(starts, at + Math.toIntExact(from), at + Math.toIntExact(to));
  }

  /// Brings the mask to a device once, for all layers of a pass and its backward pass, where its
  /// operations take tensors. They are the open scope's, beyond which the mask is of no use, unless
  /// it is retained.
  ///
  /// @param idsBT on the device
  public void bring(Tensor idsBT) {
    if (!Operations.of(idsBT).equals(Operations.FUSED)) {
      startsBT = madeNumbers(idsBT.device());
      bounds = madeBounds(idsBT.device());
    }
  }

  /// Makes what was brought outlive every scope; the caller closes it.
  public void retain() {
    for (var tensor : new @Nullable Tensor[] {startsBT, bounds}) {
      if (tensor != null) {
        tensor.retain();
      }
    }
  }

  /// Gives up the caller's hold on what was brought and retained.
  @Override
  public void close() {
    for (var tensor : new @Nullable Tensor[] {startsBT, bounds}) {
      if (tensor != null) {
        tensor.close();
      }
    }
    startsBT = null;
    bounds = null;
  }

  /// Where in all rows one after the other a document begins, and behind them the number of tokens.
  ///
  /// @return int32
  Tensor bounds(Device device) {
    return bounds == null ? madeBounds(device) : bounds;
  }

  private Tensor madeBounds(Device device) {
    int[] begins = IntStream.range(0, starts.length).filter(i -> starts[i] == i % tokens).toArray();
    int[] all = Arrays.copyOf(begins, begins.length + 1);
    all[begins.length] = starts.length;
    return Tensor.of(device, all, all.length);
  }

  /// Tokens of the longest document.
  int longest() {
    int longest = 0;
    for (int i = 0; i < starts.length; i++) {
      longest = Math.max(longest, i % tokens - starts[i] + 1);
    }
    return longest;
  }

  /// The starts as float32 numbers `[B, T]`, which hold them exactly.
  Tensor numbers(Device device) {
    return startsBT == null ? madeNumbers(device) : startsBT;
  }

  private Tensor madeNumbers(Device device) {
    float[] numbers = new float[starts.length];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = starts[i];
    }
    return Tensor.of(device, numbers, rows, tokens);
  }

  /// `[B, T, 1]`, float32: one where the token `distance` before a token is of its document, else
  /// zero.
  Tensor reaches(int distance, Device device) {
    return before(device).plus(1.0 - distance).clamp(0, 1);
  }

  /// The decays of a [DeltaRule] which forgets everything at the first token of each document.
  ///
  /// @param decaysBTN g
  public Tensor forgetting(Tensor decaysBTN) {
    requireShape(decaysBTN);
    var first = before(decaysBTN.device()).times(-1).plus(1).clamp(0, 1);
    return decaysBTN.plus(first.times(DeltaRule.FORGETS_EVERYTHING));
  }

  /// How many tokens of its document stand before a token, `[B, T, 1]`.
  private Tensor before(Device device) {
    var starts = numbers(device);
    return Tensor.counting(starts, 0, tokens).minus(starts).reshape(rows, tokens, 1);
  }

  /// Refuses a mask of another batch.
  void requireShape(Tensor xBT) {
    if (xBT.size(0) != rows || xBT.size(1) != tokens) {
      throw new IllegalArgumentException(
          "a mask of %d rows of %d tokens is not one of %s".formatted(rows, tokens, xBT));
    }
  }
}
