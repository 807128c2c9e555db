package dev.sluice.schema;

import dev.sluice.InvalidInputException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/// Which tokens may come next in a text that is to be a value of a schema: those after whose bytes
/// the automaton of [JsonState] can still complete a value, and the end tokens exactly where one is
/// complete.
///
/// The tree of tokens is walked together with the automaton. What is known of a state is kept.
/// Inside strings, where nearly all tokens may come, the tokens that stay inside depend on the
/// string alone and not on what is around it, so only those that close it are followed further.
///
/// For one thread; several texts of it may take turns.
public final class TokenMask {
  /// Sets of tokens that are kept, 19 kB each for 150,000 tokens.
  private static final int KEPT = 512;

  /// Patterns whose classes of tokens are kept, a megabyte each.
  private static final int KEPT_CLASSES = 8;

  private final JsonSchema schema;
  private final Vocabulary vocabulary;
  private final Map<Frame, long[]> kept = kept(KEPT);
  private final Map<Inside, Vocabulary.Inside> keptInside = kept(KEPT);
  private final Map<Integer, Optional<TokenClasses>> keptClasses = kept(KEPT_CLASSES);

  /// Inside a string of an automaton.
  private record Inside(int shape, int lexer, int state) {}

  public TokenMask(JsonSchema schema, Vocabulary vocabulary) {
    this.schema = schema;
    this.vocabulary = vocabulary;
  }

  private static <K, V> Map<K, V> kept(int most) {
    return new LinkedHashMap<>(16, 0.75f, true) {
      private static final long serialVersionUID = 1L;

      @Override
      protected boolean removeEldestEntry(Map.Entry<K, V> eldest) {
        return size() > most;
      }
    };
  }

  /// What was decided as the schema was read; see [JsonSchema#notes].
  public List<String> notes() {
    return schema.notes();
  }

  /// Before the first token.
  public JsonState start() {
    return JsonState.start(schema);
  }

  /// The state after a token that is no end token.
  ///
  /// @throws IllegalArgumentException if the token may not come next
  public JsonState after(JsonState state, int token) {
    byte[] bytes = vocabulary.bytes(token);
    JsonState next = state.after(bytes);
    if (bytes.length == 0 || next.isDead()) {
      throw new IllegalArgumentException("token " + token + " may not come next");
    }
    return next;
  }

  /// Whether a token ends texts.
  public boolean isEnd(int token) {
    return vocabulary.ends().contains(token);
  }

  /// The tokens that may come next.
  public BitSet allowed(JsonState state) {
    var allowed = BitSet.valueOf(tokens(state));
    if (state.isComplete()) {
      vocabulary.ends().forEach(allowed::set);
    }
    return allowed;
  }

  /// Sets the logits of all other tokens to −∞, in place.
  public void restrict(JsonState state, float[] logits) {
    if (logits.length < vocabulary.size()) {
      throw new InvalidInputException(
          "the model has %d tokens and its tokenizer %d; use the model's own tokenizer"
              .formatted(logits.length, vocabulary.size()));
    }
    requireEnds(logits.length);
    float[] ends = new float[vocabulary.ends().size()];
    int i = 0;
    for (int id : vocabulary.ends()) {
      ends[i++] = state.isComplete() ? logits[id] : Float.NEGATIVE_INFINITY;
    }
    long[] tokens = tokens(state);
    for (int word = 0; word < tokens.length; word++) {
      int from = word << 6;
      int to = Math.min(from + 64, logits.length);
      if (tokens[word] == 0) {
        Arrays.fill(logits, from, to, Float.NEGATIVE_INFINITY);
      } else {
        for (long others = ~tokens[word]; others != 0; others &= others - 1) {
          int id = from + Long.numberOfTrailingZeros(others);
          if (id < to) {
            logits[id] = Float.NEGATIVE_INFINITY;
          }
        }
      }
    }
    if (tokens.length << 6 < logits.length) {
      Arrays.fill(logits, tokens.length << 6, logits.length, Float.NEGATIVE_INFINITY);
    }
    i = 0;
    for (int id : vocabulary.ends()) {
      logits[id] = ends[i++];
    }
  }

  private void requireEnds(int tokens) {
    for (int id : vocabulary.ends()) {
      if (id >= tokens) {
        throw new InvalidInputException(
            "the token %d ends texts, and the model has the tokens 0 to %d; name another with --eos-token"
                .formatted(id, tokens - 1));
      }
    }
  }

  /// Those of one frame, or all frames' together; not to be written to.
  private long[] tokens(JsonState state) {
    if (state.frames().size() == 1) {
      return tokens(state.automaton(), state.frames().getFirst());
    }
    long[] all = vocabulary.none();
    for (Frame frame : state.frames()) {
      long[] tokens = tokens(state.automaton(), frame);
      for (int i = 0; i < all.length; i++) {
        all[i] |= tokens[i];
      }
    }
    return all;
  }

  private long[] tokens(ByteAutomaton automaton, Frame frame) {
    if (frame instanceof Frame.InName name && automaton.isOpen(name)) {
      return inName(automaton, name); // is different for every name, so it is not kept
    }
    Frame like = frame instanceof Frame.InText text ? farFromBounds(text) : frame;
    long[] known = kept.get(like);
    if (known == null) {
      known = like instanceof Frame.InText text ? inText(automaton, text) : walked(automaton, like);
      kept.put(like, known);
    }
    return known;
  }

  /// One frame for all in which a string of bounded length may end and no token is too long for it:
  /// each would be walked anew, and all have the same tokens.
  private Frame farFromBounds(Frame.InText text) {
    var shape = (Shape.Text) schema.shape(text.shape());
    if (shape.automaton() != null || !shape.isLimited()) {
      return text;
    }
    long most = vocabulary.mostCharacters();
    boolean are = (long) shape.longest() - shape.shortest() >= most;
    return are && text.state() >= shape.shortest() && shape.longest() - (long) text.state() >= most
        ? new Frame.InText(text.shape(), text.lexer(), shape.shortest(), text.below())
        : text;
  }

  private long[] walked(ByteAutomaton automaton, Frame frame) {
    long[] tokens = vocabulary.none();
    walk(automaton, 0, List.of(frame), tokens);
    return tokens;
  }

  /// Allows the tokens below a node that go on from there.
  private void walk(ByteAutomaton automaton, int node, List<Frame> frames, long[] tokens) {
    for (int below = node + 1; below < vocabulary.end(node); below = vocabulary.end(below)) {
      List<Frame> next = automaton.step(frames, vocabulary.label(below));
      if (!next.isEmpty()) {
        vocabulary.allow(below, tokens);
        walk(automaton, below, next, tokens);
      }
    }
  }

  private long[] inText(ByteAutomaton automaton, Frame.InText text) {
    var shape = (Shape.Text) schema.shape(text.shape());
    Vocabulary.Inside inside;
    if (shape.automaton() == null) {
      inside = vocabulary.inside(text.lexer());
    } else {
      var key = new Inside(text.shape(), text.lexer(), text.state());
      var found = keptInside.get(key);
      if (found == null) {
        found = inside(text, shape.automaton());
        keptInside.put(key, found);
      }
      inside = found;
    }
    boolean isLimited = shape.automaton() == null && shape.isLimited();
    int left =
        isLimited && shape.longest() < Integer.MAX_VALUE
            ? shape.longest() - text.state()
            : Integer.MAX_VALUE;
    long[] tokens = vocabulary.upTo(inside.staying().words, text.lexer(), left);
    List<Frame> below = List.of(text.below());
    for (var closing : inside.closing()) {
      boolean fits =
          !isLimited
              || (closing.characters() <= left
                  && text.state() + closing.characters() >= shape.shortest());
      if (fits) {
        vocabulary.allow(closing.node(), tokens);
        walk(automaton, closing.node(), below, tokens);
      }
    }
    return tokens;
  }

  private Vocabulary.Inside inside(Frame.InText text, CharacterAutomaton automaton) {
    if (text.lexer() == StringLexer.BODY) {
      var classes =
          keptClasses.computeIfAbsent(
              text.shape(), _ -> Optional.ofNullable(TokenClasses.of(vocabulary, automaton)));
      if (classes.isPresent()) {
        return classes.get().inside(text.state());
      }
    }
    return vocabulary.inside(text.lexer(), automaton, text.state());
  }

  /// In a name that may be any but those that the object has.
  private long[] inName(ByteAutomaton automaton, Frame.InName name) {
    var inside = vocabulary.inside(name.lexer());
    long[] tokens = inside.staying().words.clone();
    for (var closing : inside.closing()) {
      byte[] bytes = vocabulary.bytes(vocabulary.tokenBelow(closing.node()));
      List<Frame> next = new ArrayList<>(automaton.after(name, bytes, 0, closing.length()));
      if (!next.isEmpty()) {
        vocabulary.allow(closing.node(), tokens);
        walk(automaton, closing.node(), next, tokens);
      }
    }
    return tokens;
  }
}
