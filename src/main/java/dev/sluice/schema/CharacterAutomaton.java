package dev.sluice.schema;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.function.IntPredicate;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/// A deterministic finite automaton over characters (Unicode's scalar values): the strings of a
/// pattern, or one of some words. State 0 is the first, and from every state an accepting one can
/// be reached.
final class CharacterAutomaton {
  private static final int MOST_COMPARED = 1000;
  private static final int MOST_CLASSES = 32;

  private final int[] firstEdge; // of each state, and their number at the end
  private final int[] low;
  private final int[] high;
  private final int[] target;
  private final BitSet accepting;
  private final int[] firstWord; // below each state, where there are words
  private final int[] endWord;

  private CharacterAutomaton(
      List<List<Edge>> edges, BitSet accepting, int[] firstWord, int[] endWord) {
    this.firstEdge = new int[edges.size() + 1];
    for (int i = 0; i < edges.size(); i++) {
      firstEdge[i + 1] = firstEdge[i] + edges.get(i).size();
    }
    this.low = new int[firstEdge[edges.size()]];
    this.high = new int[low.length];
    this.target = new int[low.length];
    int at = 0;
    for (List<Edge> ofState : edges) {
      for (Edge edge : ofState) {
        low[at] = edge.low;
        high[at] = edge.high;
        target[at++] = edge.target;
      }
    }
    this.accepting = accepting;
    this.firstWord = firstWord;
    this.endWord = endWord;
  }

  /// From one state to another, with the characters from `low` to `high`.
  record Edge(int low, int high, int target) {}

  /// Sorts words by their characters, which is the order in which an automaton counts them.
  static final Comparator<String> BY_CHARACTERS =
      (a, b) -> Arrays.compare(a.codePoints().toArray(), b.codePoints().toArray());

  /// One of some words.
  ///
  /// @param words by [#BY_CHARACTERS], each once
  static CharacterAutomaton ofWords(List<String> words) {
    record Open(int first, int end, int length) {}
    var characters = words.stream().map(word -> word.codePoints().toArray()).toList();
    List<Open> states = new ArrayList<>(List.of(new Open(0, words.size(), 0)));
    List<List<Edge>> edges = new ArrayList<>();
    var accepting = new BitSet();
    for (int state = 0; state < states.size(); state++) {
      Open open = states.get(state);
      List<Edge> ofState = new ArrayList<>();
      int from = open.first;
      if (from < open.end && characters.get(from).length == open.length) {
        accepting.set(state);
        from++;
      }
      while (from < open.end) {
        int character = characters.get(from)[open.length];
        int to = from;
        while (to < open.end && characters.get(to)[open.length] == character) {
          to++;
        }
        ofState.add(new Edge(character, character, states.size()));
        states.add(new Open(from, to, open.length + 1));
        from = to;
      }
      edges.add(ofState);
    }
    return new CharacterAutomaton(
        edges,
        accepting,
        states.stream().mapToInt(Open::first).toArray(),
        states.stream().mapToInt(Open::end).toArray());
  }

  /// An automaton without the states that cannot be reached or lead nowhere; null where nothing is
  /// accepted.
  ///
  /// @param edges of each state, by their characters, without overlap
  static @Nullable CharacterAutomaton trimmed(List<List<Edge>> edges, BitSet accepting) {
    BitSet alive = alive(edges, accepting);
    if (!alive.get(0)) {
      return null;
    }
    int[] number = new int[edges.size()];
    Arrays.fill(number, -1);
    List<Integer> kept = new ArrayList<>(List.of(0));
    number[0] = 0;
    List<List<Edge>> trimmed = new ArrayList<>();
    var ends = new BitSet();
    for (int i = 0; i < kept.size(); i++) {
      int state = kept.get(i);
      ends.set(i, accepting.get(state));
      List<Edge> ofState = new ArrayList<>();
      for (Edge edge : edges.get(state)) {
        if (alive.get(edge.target)) {
          if (number[edge.target] < 0) {
            number[edge.target] = kept.size();
            kept.add(edge.target);
          }
          ofState.add(new Edge(edge.low, edge.high, number[edge.target]));
        }
      }
      trimmed.add(ofState);
    }
    return new CharacterAutomaton(trimmed, ends, new int[0], new int[0]);
  }

  /// The states from which an accepting one can be reached.
  private static BitSet alive(List<List<Edge>> edges, BitSet accepting) {
    List<List<Integer>> before = new ArrayList<>();
    edges.forEach(_ -> before.add(new ArrayList<>()));
    for (int state = 0; state < edges.size(); state++) {
      for (Edge edge : edges.get(state)) {
        before.get(edge.target).add(state);
      }
    }
    var alive = new BitSet();
    var open = new ArrayDeque<Integer>();
    accepting.stream().forEach(open::add);
    while (!open.isEmpty()) {
      int state = open.pop();
      if (!alive.get(state)) {
        alive.set(state);
        open.addAll(before.get(state));
      }
    }
    return alive;
  }

  /// The strings of this automaton with at least and at most so many characters; null where there
  /// are none.
  ///
  /// @param longest [Integer#MAX_VALUE] for any length
  /// @param mostStates after which an exception says that there are too many
  @Nullable CharacterAutomaton ofLength(int shortest, int longest, int mostStates) {
    record Counted(int state, int length) {}
    int counted = longest == Integer.MAX_VALUE ? shortest : longest;
    List<Counted> states = new ArrayList<>(List.of(new Counted(0, 0)));
    Map<Counted, Integer> numbers = new HashMap<>(Map.of(states.getFirst(), 0));
    List<List<Edge>> edges = new ArrayList<>();
    var accepts = new BitSet();
    for (int i = 0; i < states.size(); i++) {
      Counted from = states.get(i);
      accepts.set(i, accepting.get(from.state) && from.length >= shortest);
      List<Edge> ofState = new ArrayList<>();
      boolean isFull = from.length == counted && longest != Integer.MAX_VALUE;
      for (int e = firstEdge[from.state]; !isFull && e < firstEdge[from.state + 1]; e++) {
        var to = new Counted(target[e], Math.min(from.length + 1, counted));
        Integer number = numbers.putIfAbsent(to, states.size());
        if (number == null) {
          number = states.size();
          states.add(to);
          if (states.size() > mostStates) {
            throw new IllegalArgumentException("more than " + mostStates + " states");
          }
        }
        ofState.add(new Edge(low[e], high[e], number));
      }
      edges.add(ofState);
    }
    return trimmed(edges, accepts);
  }

  /// Whether it is seen that no string is accepted by both, where each accepts few enough.
  boolean excludes(CharacterAutomaton other) {
    record Both(int one, int another) {}
    var seen = new HashSet<Both>(List.of(new Both(0, 0)));
    var open = new ArrayDeque<Both>(seen);
    while (!open.isEmpty()) {
      Both both = open.pop();
      if ((accepts(both.one) && other.accepts(both.another)) || seen.size() > MOST_COMPARED) {
        return false;
      }
      for (int e = firstEdge[both.one]; e < firstEdge[both.one + 1]; e++) {
        for (int f = other.edgeAt(both.another, low[e]);
            f < other.firstEdge[both.another + 1] && other.low[f] <= high[e];
            f++) {
          var next = new Both(target[e], other.target[f]);
          if (seen.add(next)) {
            open.add(next);
          }
        }
      }
    }
    return true;
  }

  /// The characters that no state tells apart.
  ///
  /// @param from where each range of alike ones begins, the first at 0
  /// @param number of the class of each range; -1 where no state leads on
  /// @param firsts a character of each class
  record Classes(int[] from, int[] number, int[] firsts) {
    /// The class of a character, or -1 for one that is in no string.
    int of(int character) {
      int at = Arrays.binarySearch(from, character);
      return number[at >= 0 ? at : -at - 2];
    }

    /// One of its characters.
    int first(int number) {
      return firsts[number];
    }
  }

  /// Null where there are many.
  @Nullable Classes classes() {
    int[] from =
        IntStream.concat(
                IntStream.of(0),
                IntStream.concat(Arrays.stream(low), Arrays.stream(high).map(end -> end + 1)))
            .sorted()
            .distinct()
            .toArray();
    int[] number = new int[from.length];
    for (int state = 0; state < states(); state++) {
      Map<Long, Integer> numbers = new HashMap<>(); // of what was one class, by where it leads
      for (int range = 0; range < from.length; range++) {
        long key = (long) number[range] << Integer.SIZE | next(state, from[range]) + 1;
        number[range] = numbers.computeIfAbsent(key, _ -> numbers.size());
      }
      if (numbers.size() > MOST_CLASSES) {
        return null;
      }
    }
    return named(from, number);
  }

  private Classes named(int[] from, int[] number) {
    Map<Integer, Integer> numbers = new HashMap<>();
    int[] firsts = new int[MOST_CLASSES];
    int used = 0;
    for (int range = 0; range < from.length; range++) {
      int first = from[range];
      Integer known = numbers.get(number[range]);
      if (known == null) {
        boolean leadsOn = IntStream.range(0, states()).anyMatch(state -> next(state, first) >= 0);
        known = leadsOn ? used++ : -1;
        numbers.put(number[range], known);
        if (leadsOn) {
          firsts[known] = first;
        }
      }
      number[range] = known;
    }
    return new Classes(from, number, Arrays.copyOf(firsts, used));
  }

  int states() {
    return firstEdge.length - 1;
  }

  boolean accepts(int state) {
    return accepting.get(state);
  }

  /// Whether a string that leads to a state can be longer.
  boolean continues(int state) {
    return firstEdge[state] < firstEdge[state + 1];
  }

  /// The state after a character, or -1.
  int next(int state, int character) {
    int edge = edgeAt(state, character);
    return edge < firstEdge[state + 1] && low[edge] <= character ? target[edge] : -1;
  }

  /// Whether a character of a range leads on.
  boolean overlaps(int state, int from, int to) {
    int edge = edgeAt(state, from);
    return edge < firstEdge[state + 1] && low[edge] <= to;
  }

  /// The same where a state that leads on must also be wanted.
  boolean overlaps(int state, int from, int to, IntPredicate wanted) {
    for (int edge = edgeAt(state, from); edge < firstEdge[state + 1] && low[edge] <= to; edge++) {
      if (wanted.test(target[edge])) {
        return true;
      }
    }
    return false;
  }

  /// The first edge that does not end before a character.
  private int edgeAt(int state, int character) {
    int from = firstEdge[state];
    int to = firstEdge[state + 1];
    while (from < to) {
      int middle = (from + to) >>> 1;
      if (high[middle] < character) {
        from = middle + 1;
      } else {
        to = middle;
      }
    }
    return from;
  }

  /// The first of the words that begin as what leads to a state; the word itself where it is
  /// accepted.
  int wordsFrom(int state) {
    return firstWord[state];
  }

  /// One after the last of them.
  int wordsTo(int state) {
    return endWord[state];
  }
}
