package dev.sluice.state;

import dev.sluice.InvalidInputException;
import dev.sluice.files.WholeFile;
import dev.sluice.state.LayerStates.Part;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/// What a model's layers kept of the beginnings of texts that it has read, so that a text which
/// begins alike is not read again from there.
///
/// It is a tree of pieces. A piece is some tokens after those of its parent, with their keys and
/// values and, where a sequence ended when it was kept, the recurrent states after them: its
/// checkpoint. Keys are of a token and states are of a whole beginning, so that a hit ends at a
/// checkpoint where a model has recurrent layers, and at any token where it has none. Pieces are
/// found by comparing their tokens; there are no hashes that could be equal for different texts.
///
/// A number's last bits depend on how many tokens went through the model together. So a piece is
/// one pass over its tokens wherever that is known, and knows whether it is: [Reuse] says what a
/// reader makes of it.
///
/// There is a budget of bytes. Beyond it goes what was not used for longest: a piece that none
/// follows, or a checkpoint alone where others follow. Keys and values are copied when they are
/// kept and when they are restored; a slot shares no memory with the cache.
///
/// For one thread.
public final class PrefixCache implements AutoCloseable {
  /// Which pieces a reader takes.
  public enum Reuse {
    /// Only what the same passes have left that would read this text without a cache. Then what
    /// follows has the bits that it has without.
    EXACT,
    /// The longest beginning, however it was read: also an answer, whose tokens were read one by
    /// one when they were chosen. What follows goes on from there as if the program had never
    /// stopped, and may differ from a reading anew by rounding.
    LONGEST
  }

  /// Tokens after those of a parent.
  static final class Piece {
    final @Nullable Piece parent;

    /// How many tokens there are with these.
    final int end;

    final int[] tokens;

    /// Whether one pass of this sequence alone read these tokens, and such passes all before.
    final boolean exact;

    final Part keysAndValues;

    /// The recurrent states after these tokens; nothing is in it where a model has none, null where
    /// a model has some and they are not kept.
    @Nullable Part checkpoint;

    final List<Piece> children = new ArrayList<>();

    /// When it was last used, and when its checkpoint was: the cache counts.
    long used;

    long checkpointUsed;

    private boolean released;

    Piece(
        @Nullable Piece parent,
        int[] tokens,
        boolean exact,
        Part keysAndValues,
        @Nullable Part checkpoint) {
      this.parent = parent;
      this.end = Math.addExact(parent == null ? 0 : parent.end, tokens.length);
      this.tokens = tokens;
      this.exact = exact;
      this.keysAndValues = keysAndValues;
      this.checkpoint = checkpoint;
    }

    int begin() {
      return end - tokens.length;
    }

    long bytes() {
      return (long) tokens.length * Integer.BYTES
          + keysAndValues.bytes()
          + (checkpoint == null ? 0 : checkpoint.bytes());
    }

    /// How many of its tokens a text has in its place, of which there are `length`.
    int common(int[] ids, int length) {
      int to = Math.min(end, length);
      int other = Arrays.mismatch(tokens, 0, to - begin(), ids, begin(), to);
      return other < 0 ? to - begin() : other;
    }

    boolean isIn(int[] ids, int length) {
      return end <= length && common(ids, length) == tokens.length;
    }

    boolean isReleased() {
      return released;
    }

    void release() {
      released = true;
      keysAndValues.close();
      if (checkpoint != null) {
        checkpoint.close();
      }
    }
  }

  private final String model;
  private final long budgetBytes;
  private final Piece root = new Piece(null, new int[0], true, Part.none(), null);
  private @Nullable String form;
  private long bytes;
  private long clock;
  private boolean closed;

  /// @param model whose states these are, with all that they depend on, such as the checkpoint and
  ///   the precision: a saved cache is loaded for the same one only
  /// @param budgetBytes the most memory for what is kept
  public PrefixCache(String model, long budgetBytes) {
    if (budgetBytes < 0) {
      throw new IllegalArgumentException("a budget of %d bytes".formatted(budgetBytes));
    }
    this.model = model;
    this.budgetBytes = budgetBytes;
  }

  String model() {
    return model;
  }

  /// What layers keep, as [LayerStates#form] says it; empty when nothing was kept yet.
  String form() {
    return form == null ? "" : form;
  }

  /// The memory of what is kept.
  public long bytes() {
    return bytes;
  }

  /// Takes a free slot for the longest beginning of a text that is kept, which its length says: 0
  /// where none is. At least one token is left to be read, as what follows the text is not kept.
  ///
  /// @param ids the text
  /// @param ends where passes end that would read it without a cache, but for the last one's end,
  ///   in order
  public Slot restore(SequenceState state, int[] ids, int[] ends, Reuse reuse) {
    requireOpen();
    var hit =
        switch (reuse) {
          case EXACT -> exact(ids, ends);
          case LONGEST -> longest(ids);
        };
    if (hit == null || hit.tokens > state.capacity()) {
      return state.take();
    }
    var path = path(hit.piece);
    touch(path);
    hit.piece.checkpointUsed = clock;
    var known =
        path.stream()
            .takeWhile(piece -> piece.exact && piece.end <= hit.tokens)
            .map(piece -> piece.end)
            .toList();
    return state.take(
        () ->
            LayerStates.joined(
                path.stream().map(piece -> piece.keysAndValues).toList(),
                Objects.requireNonNull(hit.piece.checkpoint),
                hit.tokens,
                known,
                state.capacity()),
        hit.tokens);
  }

  /// @param piece the last one of which something is taken
  /// @param tokens of the beginning
  private record Hit(Piece piece, int tokens) {}

  private @Nullable Hit exact(int[] ids, int[] ends) {
    Hit hit = null;
    var at = root;
    for (int end : ends) {
      var next = end < ids.length ? onePass(at, ids, end) : null;
      if (next == null) {
        break;
      }
      hit = next.checkpoint == null ? hit : new Hit(next, next.end);
      at = next;
    }
    return hit;
  }

  /// The piece that one pass from there to `end` has left.
  private static @Nullable Piece onePass(Piece at, int[] ids, int end) {
    for (var piece : at.children) {
      if (piece.exact && piece.end == end && piece.isIn(ids, end)) {
        return piece;
      }
    }
    return null;
  }

  private @Nullable Hit longest(int[] ids) {
    int most = ids.length - 1;
    Hit hit = null;
    var open = new ArrayDeque<>(root.children);
    while (!open.isEmpty()) {
      var piece = open.pop();
      int common = piece.common(ids, most);
      boolean whole = common == piece.tokens.length;
      int tokens = piece.begin() + common;
      var checkpoint = piece.checkpoint;
      boolean usable =
          checkpoint != null && common > 0 && (whole || checkpoint.tensors().isEmpty());
      if (usable && (hit == null || tokens > hit.tokens)) {
        hit = new Hit(piece, tokens);
      }
      if (whole && piece.end < most) {
        open.addAll(piece.children);
      }
    }
    return hit;
  }

  /// Keeps what the layers keep of a sequence, and takes a checkpoint at its end: to be called
  /// where a text may be continued in another way, such as before each turn.
  ///
  /// @param ids the sequence's tokens; more may follow
  public void keep(SequenceState state, Slot slot, int[] ids) {
    requireOpen();
    state.requireWhole(slot);
    int length = slot.length();
    if (length > ids.length) {
      throw new IllegalArgumentException("%s and %d tokens".formatted(slot, ids.length));
    }
    if (length == 0) {
      return;
    }
    requireForm(slot.states.form());
    var at = root;
    boolean exact = true; // the path so far is of the passes that read this sequence
    while (at.end < length) {
      int end = exact ? slot.states.endOfPass(at.end).orElse(0) : 0;
      var next = end > 0 ? onePass(at, ids, end) : null;
      exact = next != null || (end > 0 && !isOneOfMany(slot, at.end));
      if (!exact) {
        next = longestChild(at, ids, length);
      }
      at = next != null ? next : add(at, slot, ids, exact ? end : length, exact);
    }
    if (at.checkpoint == null && exact == at.exact) {
      at.checkpoint = slot.states.recurrentStates();
      bytes += at.checkpoint.bytes();
    }
    touch(path(at));
    at.checkpointUsed = clock;
    keepWithinBudget();
  }

  /// Whether passes of one token each follow one another there: they make one piece.
  private static boolean isOneOfMany(Slot slot, int begin) {
    return slot.states.endOfPass(begin).orElse(0) == begin + 1
        && slot.states.endOfPass(begin + 1).orElse(0) == begin + 2;
  }

  private static @Nullable Piece longestChild(Piece at, int[] ids, int length) {
    return at.children.stream()
        .filter(piece -> piece.isIn(ids, length))
        .max(Comparator.comparingInt(piece -> piece.end))
        .orElse(null);
  }

  private Piece add(Piece at, Slot slot, int[] ids, int end, boolean exact) {
    var piece =
        new Piece(
            at,
            Arrays.copyOfRange(ids, at.end, end),
            exact,
            slot.states.keysAndValues(at.end, end),
            slot.states.firstRecurrentLayer().isPresent() ? null : Part.none());
    add(piece);
    return piece;
  }

  /// Takes up a piece whose parent is here.
  void add(Piece piece) {
    Objects.requireNonNull(piece.parent).children.add(piece);
    bytes += piece.bytes();
  }

  /// Refuses states of another model.
  void requireForm(String wanted) {
    if (form != null && !form.equals(wanted)) {
      throw new IllegalStateException(
          "the cache holds what the layers of another model keep: %s, not %s"
              .formatted(form, wanted));
    }
    form = wanted;
  }

  /// All pieces, parents first; the first is the empty beginning.
  List<Piece> pieces() {
    var pieces = new ArrayList<>(List.of(root));
    for (int i = 0; i < pieces.size(); i++) {
      pieces.addAll(pieces.get(i).children);
    }
    return pieces;
  }

  private static List<Piece> path(Piece last) {
    var path = new ArrayList<Piece>();
    for (var piece = last; piece.parent != null; piece = piece.parent) {
      path.add(piece);
    }
    return path.reversed();
  }

  private void touch(List<Piece> path) {
    clock++;
    path.forEach(piece -> piece.used = clock);
  }

  /// What is kept from now on is newer.
  void advanceClock(long time) {
    clock = Math.max(clock, time);
  }

  /// Forgets what was not used for longest until the rest is within the budget.
  void keepWithinBudget() {
    while (bytes > budgetBytes) {
      Piece oldest = null;
      for (var piece : pieces()) {
        if (piece != root && canForget(piece) && (oldest == null || age(piece) < age(oldest))) {
          oldest = piece;
        }
      }
      if (oldest == null) {
        return;
      }
      if (oldest.children.isEmpty()) {
        remove(oldest);
      } else {
        var checkpoint = Objects.requireNonNull(oldest.checkpoint);
        oldest.checkpoint = null;
        bytes -= checkpoint.bytes();
        checkpoint.close();
      }
    }
  }

  /// Whether none follows it, or there is a checkpoint that can go alone.
  private static boolean canForget(Piece piece) {
    return piece.children.isEmpty()
        || (piece.checkpoint != null && !piece.checkpoint.tensors().isEmpty());
  }

  private static long age(Piece piece) {
    return piece.children.isEmpty() ? piece.used : piece.checkpointUsed;
  }

  /// Removes a piece that none follows, and those before it that are then of no use to anybody.
  private void remove(Piece leaf) {
    for (var piece = leaf;
        piece.parent != null
            && piece.children.isEmpty()
            && (piece == leaf || piece.checkpoint == null);
        piece = piece.parent) {
      bytes -= piece.bytes();
      piece.parent.children.remove(piece);
      piece.release();
    }
  }

  private void requireOpen() {
    if (closed) {
      throw new IllegalStateException("the cache is closed");
    }
  }

  /// Writes all that is kept to one file, in place of what it holds.
  public void save(Path file) throws IOException {
    requireReplaceable(file);
    requireOpen();
    SavedPrefixes.write(this, file);
  }

  /// Refuses a file that holds something else than prefixes: to be asked before there is anything
  /// to be saved. Prefixes of another model or program, or the beginning of some, may be replaced.
  ///
  /// @throws InvalidInputException in one sentence
  public static void requireReplaceable(Path file) {
    WholeFile.requireReplaceable(file);
    SavedPrefixes.requireNothingElse(file);
  }

  /// Reads what [#save] has written. The file is not believed: whatever is wrong with it is an
  /// [InvalidInputException], and the caller goes on without it. Of what is more than the budget
  /// the newest is kept.
  ///
  /// @param model as in the constructor; a file of another is refused
  /// @param like a slot with any token that the model has read, whose states are of the form and on
  ///   the device that those of the file are to have
  public static PrefixCache load(Path file, String model, long budgetBytes, Slot like) {
    var cache = new PrefixCache(model, budgetBytes);
    try {
      SavedPrefixes.read(file, cache, like);
      return cache;
    } catch (RuntimeException | Error e) {
      cache.close();
      throw e;
    }
  }

  /// Forgets all.
  @Override
  public void close() {
    closed = true;
    pieces().forEach(Piece::release);
    root.children.clear();
    bytes = 0;
  }
}
