package dev.sluice.schema;

import dev.sluice.schema.Vocabulary.Closing;
import dev.sluice.schema.Vocabulary.Inside;
import dev.sluice.schema.Vocabulary.Tokens;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// The tokens of a vocabulary as an automaton sees them from between two characters of a string:
/// those whose characters it tells apart in no state stand together. A pattern that counts has a
/// state for every length, and 150,000 tokens are, for it, some hundred sequences of a few classes.
final class TokenClasses {
  private final Vocabulary vocabulary;
  private final CharacterAutomaton automaton;
  private final Node root;

  /// After a sequence of classes.
  private static final class Node {
    final int character; // of the class that leads here, whichever
    final List<Node> below = new ArrayList<>();
    final List<Closing> closing = new ArrayList<>();
    int[] whole = new int[0]; // tokens that end here
    int wholes;
    final List<Open> open = new ArrayList<>();

    Node(int character) {
      this.character = character;
    }

    void add(int token) {
      if (wholes == whole.length) {
        whole = Arrays.copyOf(whole, Math.max(4, 2 * wholes));
      }
      whole[wholes++] = token;
    }
  }

  /// A token that ends within a character.
  ///
  /// @param step of [StringLexer#step]
  private record Open(int token, long step) {}

  private TokenClasses(Vocabulary vocabulary, CharacterAutomaton automaton, Node root) {
    this.vocabulary = vocabulary;
    this.automaton = automaton;
    this.root = root;
  }

  /// Null for an automaton of so many classes that little would stand together.
  static @Nullable TokenClasses of(Vocabulary vocabulary, CharacterAutomaton automaton) {
    var classes = automaton.classes();
    if (classes == null) {
      return null;
    }
    var root = new Node(-1);
    plant(vocabulary, classes, 0, 0, 0, StringLexer.BODY, root);
    return new TokenClasses(vocabulary, automaton, root);
  }

  /// Sorts the tokens below a node of the vocabulary.
  private static void plant(
      Vocabulary vocabulary,
      CharacterAutomaton.Classes classes,
      int node,
      int length,
      int begun,
      int lexer,
      Node at) {
    for (int below = node + 1; below < vocabulary.end(node); below = vocabulary.end(below)) {
      long step = StringLexer.step(lexer, vocabulary.label(below));
      if (step == StringLexer.DEAD) {
        continue;
      }
      if (step == StringLexer.CLOSE) {
        at.closing.add(new Closing(below, length + 1, begun));
        continue;
      }
      int character = StringLexer.character(step);
      Node next = at;
      if (character >= 0) {
        int known = classes.of(character);
        if (known < 0) {
          continue; // it is in no string
        }
        next = child(at, classes.first(known));
        vocabulary.tokensAt(below, next::add);
      } else {
        vocabulary.tokensAt(below, token -> at.open.add(new Open(token, step)));
      }
      int more = lexer == StringLexer.BODY ? begun + 1 : begun;
      plant(vocabulary, classes, below, length + 1, more, (int) step, next);
    }
  }

  private static Node child(Node of, int character) {
    for (Node below : of.below) {
      if (below.character == character) {
        return below;
      }
    }
    var made = new Node(character);
    of.below.add(made);
    return made;
  }

  /// What the tokens do from a state on, as [Vocabulary#inside] finds it token by token.
  Inside inside(int state) {
    long[] staying = vocabulary.none();
    List<Closing> closing = new ArrayList<>();
    walk(root, state, staying, closing);
    return new Inside(new Tokens(staying), List.copyOf(closing));
  }

  private void walk(Node node, int state, long[] staying, List<Closing> closing) {
    for (int i = 0; i < node.wholes; i++) {
      Vocabulary.set(staying, node.whole[i]);
    }
    for (Open open : node.open) {
      if (ByteAutomaton.after(automaton, state, open.step) >= 0) {
        Vocabulary.set(staying, open.token);
      }
    }
    if (automaton.accepts(state)) {
      closing.addAll(node.closing);
    }
    for (Node below : node.below) {
      int next = automaton.next(state, below.character);
      if (next >= 0) {
        walk(below, next, staying, closing);
      }
    }
  }
}
