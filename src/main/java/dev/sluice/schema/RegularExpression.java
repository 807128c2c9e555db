package dev.sluice.schema;

import java.util.ArrayList;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;

/// A `pattern` as ECMA-262 writes it, made into an automaton: characters, classes, groups,
/// alternatives, repetitions, `^` and `$`. What no finite automaton is (references back) or what is
/// left out here (looking around, word borders, classes of Unicode, flags) is refused.
///
/// `^` and `$` are symbols of their own around the text: a pattern begins with `^`, or anywhere in
/// what begins with it.
final class RegularExpression {
  /// A pattern cannot be followed; the message is the end of a sentence that names it.
  static final class Refused extends Exception {
    private static final long serialVersionUID = 1L;

    Refused(String message) {
      super(message);
    }
  }

  /// States of an automaton.
  static final int MOST_STATES = 4000;

  /// States before they are made deterministic.
  private static final int MOST_PARTS = 4000;

  /// Steps of making them so: some tenths of a second.
  private static final long MOST_WORK = 20_000_000;

  private static final int DEEPEST = 50;
  private static final int BEGIN = Character.MAX_CODE_POINT + 1;
  private static final int END = BEGIN + 1;

  private static final int[] DIGITS = {'0', '9'};
  private static final int[] WORD = {'0', '9', 'A', 'Z', '_', '_', 'a', 'z'};
  private static final int[] LINE_ENDS = {'\n', '\n', '\r', '\r', 0x2028, 0x2029};
  private static final int[] SPACE = {
    '\t', '\r', ' ', ' ', 0xA0, 0xA0, 0x1680, 0x1680, 0x2000, 0x200A, 0x2028, 0x2029, 0x202F,
    0x202F, 0x205F, 0x205F, 0x3000, 0x3000, 0xFEFF, 0xFEFF
  };

  // ---------------------------------------------------------------- the parts of a pattern

  private sealed interface Part {}

  /// One of some characters, as pairs of the first and the last.
  private record Characters(List<Integer> ranges) implements Part {}

  private record Sequence(List<Part> parts) implements Part {}

  private record Alternatives(List<Part> parts) implements Part {}

  private record Repeated(Part part, int fewest, int most) implements Part {}

  private final int[] pattern;
  private int at;
  private int depth;

  private RegularExpression(String pattern) {
    this.pattern = pattern.codePoints().toArray();
  }

  /// The automaton of the strings in which a pattern is found; null where there are none.
  static @Nullable CharacterAutomaton automaton(String pattern) throws Refused {
    var parsing = new RegularExpression(pattern);
    Part part = parsing.alternatives();
    if (parsing.at < parsing.pattern.length) {
      throw new Refused("a ')' closes nothing");
    }
    return new Determined(part).automaton();
  }

  private Part alternatives() throws Refused {
    if (++depth > DEEPEST) {
      throw new Refused("groups are nested deeper than " + DEEPEST);
    }
    List<Part> parts = new ArrayList<>();
    do {
      parts.add(sequence());
    } while (took('|'));
    depth--;
    return parts.size() == 1 ? parts.getFirst() : new Alternatives(parts);
  }

  private Part sequence() throws Refused {
    List<Part> parts = new ArrayList<>();
    while (at < pattern.length && pattern[at] != '|' && pattern[at] != ')') {
      parts.add(repeated(one()));
    }
    return parts.size() == 1 ? parts.getFirst() : new Sequence(parts);
  }

  private Part repeated(Part part) throws Refused {
    if (at == pattern.length) {
      return part;
    }
    Part repeated;
    if (took('*')) {
      repeated = new Repeated(part, 0, Integer.MAX_VALUE);
    } else if (took('+')) {
      repeated = new Repeated(part, 1, Integer.MAX_VALUE);
    } else if (took('?')) {
      repeated = new Repeated(part, 0, 1);
    } else if (took('{')) {
      int fewest = number();
      int most = fewest;
      if (took(',')) {
        most = at < pattern.length && pattern[at] == '}' ? Integer.MAX_VALUE : number();
      }
      require('}');
      if (most < fewest) {
        throw new Refused("{%d,%d} repeats less than at least".formatted(fewest, most));
      }
      repeated = new Repeated(part, fewest, most);
    } else {
      return part;
    }
    took('?'); // whether a repetition is greedy changes no string
    if (at < pattern.length && (pattern[at] == '*' || pattern[at] == '+' || pattern[at] == '?')) {
      throw new Refused("a repetition is repeated; put it into a group");
    }
    return repeated;
  }

  private int number() throws Refused {
    int from = at;
    int number = 0;
    while (at < pattern.length && pattern[at] >= '0' && pattern[at] <= '9') {
      number = Math.min(number * 10 + pattern[at++] - '0', MOST_PARTS + 1);
    }
    if (from == at) {
      throw new Refused("a '{' begins no number of repetitions; write \\{ for the character");
    }
    return number;
  }

  private Part one() throws Refused {
    int c = pattern[at++];
    return switch (c) {
      case '(' -> {
        if (took('?') && !took(':')) {
          throw new Refused("groups that begin with (? look around, have names or set flags");
        }
        Part part = alternatives();
        require(')');
        yield part;
      }
      case '[' -> characterClass();
      case '.' -> new Characters(others(LINE_ENDS));
      case '^' -> new Characters(List.of(BEGIN, BEGIN));
      case '$' -> new Characters(List.of(END, END));
      case '\\' -> {
        List<Integer> ranges = new ArrayList<>();
        escape(ranges, false);
        yield new Characters(ranges);
      }
      case '*', '+', '?', '{', '}', ']' ->
          throw new Refused("a '%c' stands for nothing here; write \\%c".formatted(c, c));
      default -> new Characters(scalar(c, c));
    };
  }

  private Part characterClass() throws Refused {
    boolean negated = took('^');
    List<Integer> ranges = new ArrayList<>();
    while (at < pattern.length && pattern[at] != ']') {
      int first = member(ranges);
      boolean isRange = at + 1 < pattern.length && pattern[at] == '-' && pattern[at + 1] != ']';
      if (isRange) {
        at++;
        int last = member(ranges);
        if (first < 0 || last < first) {
          throw new Refused("a range of a class is no range of characters");
        }
        ranges.addAll(scalar(first, last));
      } else if (first >= 0) {
        ranges.addAll(scalar(first, first));
      }
    }
    require(']');
    return new Characters(
        negated ? others(ranges.stream().mapToInt(Integer::intValue).toArray()) : ranges);
  }

  /// A character of a class; -1 for a class in it, whose characters are added.
  private int member(List<Integer> ranges) throws Refused {
    if (at == pattern.length) {
      throw new Refused("a '[' is not closed");
    }
    int c = pattern[at++];
    return c == '\\' ? escape(ranges, true) : c;
  }

  /// What follows a backslash: its character, added too where it is no member of a class; or -1
  /// where it is several, which are added.
  private int escape(List<Integer> ranges, boolean isMember) throws Refused {
    if (at == pattern.length) {
      throw new Refused("it ends with a backslash");
    }
    int c = pattern[at++];
    int character =
        switch (c) {
          case 'n' -> '\n';
          case 'r' -> '\r';
          case 't' -> '\t';
          case 'f' -> '\f';
          case 'v' -> 0x0B;
          case 'x' -> hex(2);
          case 'u' -> unit();
          case 'd', 'w', 's', 'D', 'W', 'S' -> -1;
          default -> {
            if (Character.isLetterOrDigit(c) && c != '0') {
              throw new Refused("the escape \\%c is not followed here".formatted(c));
            }
            yield c == '0' ? 0 : c;
          }
        };
    if (character < 0) {
      int[] known =
          switch (Character.toLowerCase(c)) {
            case 'd' -> DIGITS;
            case 'w' -> WORD;
            default -> SPACE;
          };
      if (Character.isUpperCase(c)) {
        ranges.addAll(others(known));
      } else {
        for (int bound : known) {
          ranges.add(bound);
        }
      }
    } else if (!isMember) {
      ranges.addAll(scalar(character, character));
    }
    return character;
  }

  private int unit() throws Refused {
    if (took('{')) {
      int value = 0;
      int from = at;
      while (at < pattern.length && Character.digit(pattern[at], 16) >= 0 && at - from < 6) {
        value = value << 4 | Character.digit(pattern[at++], 16);
      }
      require('}');
      if (value > Character.MAX_CODE_POINT) {
        throw new Refused("\\u{%x} is no character".formatted(value));
      }
      return value;
    }
    int unit = hex(4);
    boolean isPair =
        Character.isHighSurrogate((char) unit)
            && at + 1 < pattern.length
            && pattern[at] == '\\'
            && pattern[at + 1] == 'u';
    if (!isPair) {
      return unit;
    }
    at += 2;
    return Character.toCodePoint((char) unit, (char) hex(4));
  }

  private int hex(int digits) throws Refused {
    int value = 0;
    for (int i = 0; i < digits; i++) {
      int digit = at < pattern.length ? Character.digit(pattern[at++], 16) : -1;
      if (digit < 0) {
        throw new Refused("a \\x or \\u has too few digits");
      }
      value = value << 4 | digit;
    }
    return value;
  }

  private boolean took(int c) {
    boolean takes = at < pattern.length && pattern[at] == c;
    at += takes ? 1 : 0;
    return takes;
  }

  private void require(int c) throws Refused {
    if (!took(c)) {
      throw new Refused("a '%c' is missing".formatted(c));
    }
  }

  /// A range without halves of pairs, which no text has.
  private static List<Integer> scalar(int low, int high) {
    List<Integer> ranges = new ArrayList<>();
    if (low < Character.MIN_SURROGATE) {
      ranges.addAll(List.of(low, Math.min(high, Character.MIN_SURROGATE - 1)));
    }
    if (high > Character.MAX_SURROGATE) {
      ranges.addAll(List.of(Math.max(low, Character.MAX_SURROGATE + 1), high));
    }
    return ranges;
  }

  /// All characters but those of some ranges.
  private static List<Integer> others(int[] ranges) {
    var excluded = new BitSet();
    for (int i = 0; i < ranges.length; i += 2) {
      excluded.set(ranges[i], ranges[i + 1] + 1);
    }
    List<Integer> rest = new ArrayList<>();
    for (int from = excluded.nextClearBit(0); from <= Character.MAX_CODE_POINT; ) {
      int next = excluded.nextSetBit(from);
      int to = next < 0 ? BEGIN : next;
      rest.addAll(scalar(from, to - 1));
      from = excluded.nextClearBit(to);
    }
    return rest;
  }

  // ---------------------------------------------------------------- made deterministic

  /// Thompson's construction, then that of subsets.
  private static final class Determined {
    private final List<List<CharacterAutomaton.Edge>> edges = new ArrayList<>();
    private final List<List<Integer>> free = new ArrayList<>(); // edges without a character
    private final int start;
    private final int last;
    private long work;

    Determined(Part part) throws Refused {
      start = state();
      int begin = state();
      int end = state();
      last = state();
      var any = new Characters(scalar(0, Character.MAX_CODE_POINT));
      // Before what is found: nothing, for a pattern that begins with ^, or all from the beginning.
      int inside = state();
      free.get(start).add(begin);
      edges.get(start).add(new CharacterAutomaton.Edge(BEGIN, BEGIN, inside));
      loop(inside, any);
      free.get(inside).add(begin);
      add(part, begin, end);
      int after = state();
      free.get(end).add(last);
      free.get(end).add(after);
      loop(after, any);
      edges.get(after).add(new CharacterAutomaton.Edge(END, END, last));
    }

    private void loop(int state, Characters characters) {
      for (int i = 0; i < characters.ranges.size(); i += 2) {
        edges
            .get(state)
            .add(
                new CharacterAutomaton.Edge(
                    characters.ranges.get(i), characters.ranges.get(i + 1), state));
      }
    }

    private int state() throws Refused {
      if (edges.size() == MOST_PARTS) {
        throw new Refused("it has more than %d parts, repetitions counted".formatted(MOST_PARTS));
      }
      edges.add(new ArrayList<>());
      free.add(new ArrayList<>());
      return edges.size() - 1;
    }

    private void add(Part part, int from, int to) throws Refused {
      switch (part) {
        case Characters characters -> {
          for (int i = 0; i < characters.ranges.size(); i += 2) {
            edges
                .get(from)
                .add(
                    new CharacterAutomaton.Edge(
                        characters.ranges.get(i), characters.ranges.get(i + 1), to));
          }
        }
        case Sequence sequence -> {
          int before = from;
          for (Part each : sequence.parts) {
            int after = state();
            add(each, before, after);
            before = after;
          }
          free.get(before).add(to);
        }
        case Alternatives alternatives -> {
          for (Part each : alternatives.parts) {
            add(each, from, to);
          }
        }
        case Repeated repeated -> {
          int before = state();
          free.get(from).add(before);
          for (int i = 0; i < repeated.fewest; i++) {
            int after = state();
            add(repeated.part, before, after);
            before = after;
          }
          if (repeated.most == Integer.MAX_VALUE) {
            int again = state();
            free.get(before).add(again);
            int after = state();
            add(repeated.part, again, after);
            free.get(after).add(again);
            before = again;
          } else {
            for (int i = repeated.fewest; i < repeated.most; i++) {
              int after = state();
              free.get(before).add(to);
              add(repeated.part, before, after);
              before = after;
            }
          }
          free.get(before).add(to);
        }
      }
    }

    private BitSet closed(BitSet states) throws Refused {
      var open = new ArrayList<Integer>(states.stream().boxed().toList());
      while (!open.isEmpty()) {
        pay(1);
        for (int next : free.get(open.removeLast())) {
          pay(1);
          if (!states.get(next)) {
            states.set(next);
            open.add(next);
          }
        }
      }
      return states;
    }

    private void pay(int steps) throws Refused {
      work += steps;
      if (work > MOST_WORK) {
        throw new Refused("its automaton is too large");
      }
    }

    private BitSet after(BitSet states, int character) throws Refused {
      var next = new BitSet();
      for (int s = states.nextSetBit(0); s >= 0; s = states.nextSetBit(s + 1)) {
        pay(1 + edges.get(s).size());
        for (var edge : edges.get(s)) {
          if (edge.low() <= character && character <= edge.high()) {
            next.set(edge.target());
          }
        }
      }
      return closed(next);
    }

    @Nullable CharacterAutomaton automaton() throws Refused {
      var borders = new TreeSet<Integer>(); // where characters begin to behave differently
      for (var ofState : edges) {
        for (var edge : ofState) {
          borders.add(edge.low());
          borders.add(edge.high() + 1);
        }
      }
      int[] bounds = borders.stream().mapToInt(Integer::intValue).filter(b -> b <= BEGIN).toArray();
      var first = new BitSet();
      first.set(start);
      List<BitSet> sets = new ArrayList<>(List.of(after(closed(first), BEGIN)));
      Map<BitSet, Integer> numbers = new HashMap<>(Map.of(sets.getFirst(), 0));
      List<List<CharacterAutomaton.Edge>> determined = new ArrayList<>();
      var accepting = new BitSet();
      for (int i = 0; i < sets.size(); i++) {
        BitSet set = sets.get(i);
        accepting.set(i, after(set, END).get(last));
        List<CharacterAutomaton.Edge> ofState = new ArrayList<>();
        for (int b = 0; b + 1 < bounds.length; b++) {
          BitSet next = after(set, bounds[b]);
          if (next.isEmpty()) {
            continue;
          }
          Integer number = numbers.putIfAbsent(next, sets.size());
          if (number == null) {
            number = sets.size();
            sets.add(next);
            if (sets.size() > MOST_STATES) {
              throw new Refused("its automaton has more than %d states".formatted(MOST_STATES));
            }
          }
          join(ofState, bounds[b], bounds[b + 1] - 1, number);
        }
        determined.add(ofState);
      }
      return CharacterAutomaton.trimmed(determined, accepting);
    }

    /// Adds an edge, or lengthens the last one where it leads on to the same state.
    private static void join(List<CharacterAutomaton.Edge> edges, int low, int high, int target) {
      if (!edges.isEmpty()
          && edges.getLast().target() == target
          && edges.getLast().high() == low - 1) {
        edges.set(
            edges.size() - 1, new CharacterAutomaton.Edge(edges.getLast().low(), high, target));
      } else {
        edges.add(new CharacterAutomaton.Edge(low, high, target));
      }
    }
  }
}
