package dev.sluice.schema;

import dev.sluice.InvalidInputException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.IntConsumer;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/// The tokens of a model as a tree of their bytes, and which of them stay inside a string of JSON.
/// Made once for a model; threads may share it.
///
/// The tree's nodes are numbered as they are passed from the root, each before what is below it, so
/// that the nodes below one are those up to [#end].
public final class Vocabulary {
  /// Longer tokens are never chosen.
  private static final int LONGEST = 1024;

  private static final int NONE = -1;

  private final byte[][] bytes;
  private final Set<Integer> ends;
  private final byte[] label;
  private final int[] end;
  private final int[] token; // at each node, or NONE
  private final int[] same; // of each token: another with the same bytes, or NONE
  private final short[] characters; // that each token begins, from between two characters
  private final int mostCharacters;
  private final Map<Integer, Inside> inside = new ConcurrentHashMap<>();

  /// @param bytes of each token, by id; none for tokens that JSON may not have
  /// @param ends the tokens that end a text, at least one
  public Vocabulary(byte[][] bytes, Set<Integer> ends) {
    if (ends.isEmpty()) {
      throw new InvalidInputException(
          "nothing says which token ends a text, and only with one does a text end where its JSON"
              + " is complete; name it with --eos-token");
    }
    this.bytes = bytes.clone();
    this.ends = Set.copyOf(ends);
    Comparator<Integer> byBytes = (a, b) -> Arrays.compareUnsigned(bytes[a], bytes[b]);
    int[] sorted =
        IntStream.range(0, bytes.length)
            .filter(id -> bytes[id].length > 0 && bytes[id].length <= LONGEST)
            .filter(id -> !ends.contains(id))
            .boxed()
            .sorted(byBytes)
            .mapToInt(Integer::intValue)
            .toArray();
    int nodes = 1;
    for (int i = 0; i < sorted.length; i++) {
      nodes += bytes[sorted[i]].length - shared(sorted, i);
    }
    this.label = new byte[nodes];
    this.end = new int[nodes];
    this.token = new int[nodes];
    this.same = new int[bytes.length];
    Arrays.fill(token, NONE);
    Arrays.fill(same, NONE);
    plant(sorted);
    requireBytes();
    this.characters = new short[bytes.length];
    int most = 0;
    for (int id : sorted) {
      characters[id] = (short) charactersIn(bytes[id], StringLexer.BODY);
      most = Math.max(most, characters[id]);
    }
    this.mostCharacters = most;
  }

  /// How many bytes a token shares with the one before it.
  private int shared(int[] sorted, int i) {
    if (i == 0) {
      return 0;
    }
    int mismatch = Arrays.mismatch(bytes[sorted[i - 1]], bytes[sorted[i]]);
    return mismatch < 0 ? bytes[sorted[i]].length : mismatch;
  }

  private void plant(int[] sorted) {
    int[] path = new int[LONGEST + 1]; // the nodes of the token before, the root first
    int length = 0;
    int next = 1;
    for (int i = 0; i < sorted.length; i++) {
      byte[] own = bytes[sorted[i]];
      int shared = shared(sorted, i);
      for (; length > shared; length--) {
        end[path[length]] = next;
      }
      while (length < own.length) {
        label[next] = own[length];
        path[++length] = next++;
      }
      int at = path[length];
      same[sorted[i]] = token[at];
      token[at] = sorted[i];
    }
    for (; length >= 0; length--) {
      end[path[length]] = next;
    }
  }

  /// Every byte that JSON can need is a token, so that no value ends where no token goes on.
  private void requireBytes() {
    var single = new boolean[256];
    for (int node = 1; node < end[0]; node = end[node]) {
      single[label[node] & 0xFF] = token[node] != NONE;
    }
    for (int b = ' '; b <= 0xF4; b++) {
      if (!single[b] && b != 0x7F && b != 0xC0 && b != 0xC1) {
        throw new InvalidInputException(
            "the tokenizer has no token for the byte 0x%02X alone, so not every JSON value can be written with it; use a model with a byte-level tokenizer"
                .formatted(b));
      }
    }
  }

  // ---------------------------------------------------------------- the tree

  int size() {
    return bytes.length;
  }

  Set<Integer> ends() {
    return ends;
  }

  /// The bytes of a token; none where JSON may not have it.
  byte[] bytes(int id) {
    return id < bytes.length && !ends.contains(id) ? bytes[id] : new byte[0];
  }

  /// The byte that leads to a node.
  int label(int node) {
    return label[node] & 0xFF;
  }

  /// One after the last node below a node.
  int end(int node) {
    return end[node];
  }

  /// Allows the tokens that end at a node.
  void allow(int node, long[] tokens) {
    for (int id = token[node]; id != NONE; id = same[id]) {
      set(tokens, id);
    }
  }

  /// The tokens that end at a node, one after another.
  void tokensAt(int node, IntConsumer to) {
    for (int id = token[node]; id != NONE; id = same[id]) {
      to.accept(id);
    }
  }

  static void set(long[] tokens, int id) {
    tokens[id >> 6] |= 1L << id;
  }

  long[] none() {
    return new long[(bytes.length + 63) / 64];
  }

  /// A token that ends at a node or below it.
  int tokenBelow(int node) {
    int at = node;
    while (token[at] == NONE) {
      at++;
    }
    return token[at];
  }

  // ---------------------------------------------------------------- inside strings

  /// What the tokens do from one state inside a string on.
  ///
  /// @param staying those with which the string goes on
  /// @param closing where in the tree the string ends
  record Inside(Tokens staying, List<Closing> closing) {}

  /// A set of tokens; not to be written to.
  static final class Tokens {
    final long[] words;

    Tokens(long[] words) {
      this.words = words;
    }
  }

  /// Where a string ends.
  ///
  /// @param node that the quotation mark leads to
  /// @param length bytes up to there
  /// @param characters that begin up to there
  record Closing(int node, int length, int characters) {}

  /// For a string that may be any; kept for the states that come often.
  Inside inside(int lexer) {
    return lexer < StringLexer.PLAIN_STATES
        ? inside.computeIfAbsent(lexer, state -> inside(state, null, 0))
        : inside(lexer, null, 0);
  }

  /// For a string of an automaton.
  Inside inside(int lexer, @Nullable CharacterAutomaton automaton, int state) {
    long[] staying = none();
    List<Closing> closing = new ArrayList<>();
    walk(0, 0, 0, lexer, automaton, state, staying, closing);
    return new Inside(new Tokens(staying), List.copyOf(closing));
  }

  private void walk(
      int node,
      int length,
      int begun,
      int lexer,
      @Nullable CharacterAutomaton automaton,
      int state,
      long[] staying,
      List<Closing> closing) {
    for (int below = node + 1; below < end[node]; below = end[below]) {
      long step = StringLexer.step(lexer, label(below));
      if (step == StringLexer.DEAD) {
        continue;
      }
      if (step == StringLexer.CLOSE) {
        if (automaton == null || automaton.accepts(state)) {
          closing.add(new Closing(below, length + 1, begun));
        }
        continue;
      }
      int next = automaton == null ? 0 : ByteAutomaton.after(automaton, state, step);
      if (next >= 0) {
        allow(below, staying);
        int more = lexer == StringLexer.BODY ? begun + 1 : begun;
        walk(below, length + 1, more, (int) step, automaton, next, staying, closing);
      }
    }
  }

  /// The most characters of a string that a token begins.
  int mostCharacters() {
    return mostCharacters;
  }

  /// The tokens of a set that begin at most so many characters of a string.
  long[] upTo(long[] tokens, int lexer, int most) {
    if (most >= mostCharacters) {
      return tokens.clone();
    }
    long[] kept = tokens.clone();
    for (int word = 0; word < kept.length; word++) {
      for (long left = kept[word]; left != 0; left &= left - 1) {
        int id = word << 6 | Long.numberOfTrailingZeros(left);
        int begun = lexer == StringLexer.BODY ? characters[id] : charactersIn(bytes[id], lexer);
        if (begun > most) {
          kept[word] &= ~(1L << id);
        }
      }
    }
    return kept;
  }

  /// How many characters begin in a token, up to where a string ends.
  private static int charactersIn(byte[] bytes, int lexer) {
    int begun = 0;
    long state = lexer;
    for (byte b : bytes) {
      long next = StringLexer.step((int) state, b & 0xFF);
      if (next < 0) {
        break;
      }
      begun += (int) state == StringLexer.BODY ? 1 : 0;
      state = next;
    }
    return begun;
  }
}
