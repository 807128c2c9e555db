package dev.sluice.schema;

import java.math.BigInteger;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/// The bytes of the values of a schema. Where several alternatives are possible, all are followed,
/// each with a stack of its own; from each of them a value can be completed.
final class ByteAutomaton {
  /// How many are followed at once. If there are more, the first ones are, so that what is written
  /// is still valid, and some of what is valid cannot be written.
  static final int MOST_READINGS = 256;

  // How blanks are counted: one space, or a line break and so many for each open array or object.
  private static final int NO_BLANKS = 0;
  private static final int SPACE = 1;
  private static final int LINE_BREAK = 2;
  private static final int INDENTATION = 4;

  /// A model likes a line to end before it begins to answer, and an empty one after thinking.
  private static final int MOST_BEFORE = 2;

  private final JsonSchema schema;

  ByteAutomaton(JsonSchema schema) {
    this.schema = schema;
  }

  /// Whether the value is complete.
  boolean isComplete(Frame frame) {
    return switch (frame) {
      case Frame.Root root -> root.done();
      case Frame.InNumber number -> mayEnd(number) && isComplete(number.below());
      case Frame.InLiteral literal ->
          words(literal).accepts(literal.state()) && isComplete(literal.below());
      case Frame.InText _, Frame.InName _, Frame.InArray _, Frame.InObject _ -> false;
    };
  }

  /// What is open after several bytes, from one frame.
  List<Frame> after(Frame frame, byte[] bytes, int from, int to) {
    List<Frame> frames = List.of(frame);
    for (int i = from; i < to && !frames.isEmpty(); i++) {
      frames = step(frames, bytes[i] & 0xFF);
    }
    return frames;
  }

  /// What is open after one more byte; empty where it may not follow.
  List<Frame> step(List<Frame> frames, int b) {
    List<Frame> next = new ArrayList<>(1);
    for (Frame frame : frames) {
      step(frame, b, next);
    }
    return next;
  }

  static void add(List<Frame> next, Frame frame) {
    if (next.size() < MOST_READINGS && !next.contains(frame)) {
      next.add(frame);
    }
  }

  void step(Frame frame, int b, List<Frame> next) {
    switch (frame) {
      case Frame.Root root -> root(root, b, next);
      case Frame.InText text -> text(text, b, next);
      case Frame.InName name -> name(name, b, next);
      case Frame.InNumber number -> number(number, b, next);
      case Frame.InLiteral literal -> literal(literal, b, next);
      case Frame.InArray array -> array(array, b, next);
      case Frame.InObject object -> object(object, b, next);
    }
  }

  private void root(Frame.Root root, int b, List<Frame> next) {
    if (root.done()) {
      return;
    }
    if (b == ' ' || b == '\n') {
      if (root.blanks() < MOST_BEFORE) {
        add(next, new Frame.Root(false, root.blanks() + 1));
      }
    } else {
      begin(schema.root(), 0, b, Frame.Root.DONE, next);
    }
  }

  /// Blanks after one more, or -1 where it is too many or none.
  private static int blanks(int blanks, int level, int b) {
    if (blanks == NO_BLANKS) {
      return b == ' ' ? SPACE : b == '\n' ? LINE_BREAK : -1;
    }
    boolean indents = (b == ' ' || b == '\t') && blanks >= LINE_BREAK;
    return indents && blanks - LINE_BREAK < INDENTATION * level ? blanks + 1 : -1;
  }

  private static boolean isBlank(int b) {
    return b == ' ' || b == '\n' || b == '\t';
  }

  /// Begins a value with its first byte.
  ///
  /// @param level arrays and objects around it
  /// @param below what is open when it is complete
  private void begin(int number, int level, int b, Frame below, List<Frame> next) {
    if (!schema.fits(number, level)) {
      return;
    }
    switch (schema.shape(number)) {
      case Shape.Union union -> {
        for (int each : union.alternatives()) {
          begin(each, level, b, below, next);
        }
      }
      case Shape.Text _ -> {
        if (b == '"') {
          add(next, new Frame.InText(number, StringLexer.BODY, 0, below));
        }
      }
      case Shape.Numeric shape -> {
        if (b == '-' || isDigit(b)) {
          var part =
              b == '-'
                  ? Frame.NumberPart.SIGN
                  : b == '0' ? Frame.NumberPart.ZERO : Frame.NumberPart.WHOLE;
          var magnitude =
              b == '-' || shape.bounds() == null ? BigInteger.ZERO : BigInteger.valueOf(b - '0');
          addNumber(
              new Frame.InNumber(number, b == '-', part, b == '-' ? 0 : 1, magnitude, 0, below),
              shape,
              next);
        }
      }
      case Shape.Literals literals ->
          addLiteral(
              new Frame.InLiteral(number, literals.words().next(0, b), below),
              literals.words(),
              next);
      case Shape.Items _ -> {
        if (b == '[') {
          add(next, new Frame.InArray(number, level + 1, 0, Frame.Place.OPEN, NO_BLANKS, below));
        }
      }
      case Shape.Members _ -> {
        if (b == '{') {
          add(
              next,
              new Frame.InObject(
                  number,
                  level + 1,
                  new BitSet(),
                  Set.of(),
                  Frame.Place.OPEN,
                  JsonSchema.NONE,
                  NO_BLANKS,
                  below));
        }
      }
    }
  }

  // ---------------------------------------------------------------- strings

  private void text(Frame.InText text, int b, List<Frame> next) {
    var shape = (Shape.Text) schema.shape(text.shape());
    long step = StringLexer.step(text.lexer(), b);
    if (step == StringLexer.CLOSE) {
      if (mayClose(shape, text.state())) {
        add(next, text.below());
      }
    } else if (step != StringLexer.DEAD) {
      int state =
          shape.automaton() == null
              ? counted(shape, text)
              : after(shape.automaton(), text.state(), step);
      if (state >= 0) {
        add(next, new Frame.InText(text.shape(), (int) step, state, text.below()));
      }
    }
  }

  private static boolean mayClose(Shape.Text shape, int state) {
    return shape.automaton() == null ? state >= shape.shortest() : shape.automaton().accepts(state);
  }

  /// The number of characters after a byte that does not close the string; -1 if they are too many.
  private static int counted(Shape.Text shape, Frame.InText text) {
    if (!shape.isLimited() || text.lexer() != StringLexer.BODY) {
      return text.state();
    }
    if (shape.longest() == Integer.MAX_VALUE) {
      return Math.min(text.state() + 1, shape.shortest());
    }
    return text.state() < shape.longest() ? text.state() + 1 : -1;
  }

  /// An automaton's state after a step within a string; -1 where no string goes on like this.
  static int after(CharacterAutomaton automaton, int state, long step) {
    int character = StringLexer.character(step);
    if (character >= 0) {
      return automaton.next(state, character);
    }
    boolean leadsOn =
        StringLexer.canBecome((int) step, (low, high) -> automaton.overlaps(state, low, high));
    return leadsOn ? state : -1;
  }

  // ---------------------------------------------------------------- numbers and literals

  private static boolean isDigit(int b) {
    return b >= '0' && b <= '9';
  }

  private void number(Frame.InNumber number, int b, List<Frame> next) {
    var shape = (Shape.Numeric) schema.shape(number.shape());
    if (mayEnd(number)) {
      step(number.below(), b, next);
    }
    switch (number.part()) {
      case SIGN -> {
        if (isDigit(b)) {
          longer(
              number, b == '0' ? Frame.NumberPart.ZERO : Frame.NumberPart.WHOLE, 1, b, shape, next);
        }
      }
      case ZERO, WHOLE -> {
        if (isDigit(b)
            && number.part() == Frame.NumberPart.WHOLE
            && number.digits() < Shape.Numeric.WHOLE_DIGITS) {
          longer(number, Frame.NumberPart.WHOLE, number.digits() + 1, b, shape, next);
        } else if (b == '.' && shape.fractionDigits() > 0) {
          longer(number, Frame.NumberPart.POINT, 0, b, shape, next);
        } else {
          exponent(number, b, shape, next);
        }
      }
      case POINT, FRACTION -> {
        if (isDigit(b) && number.digits() < shape.fractionDigits()) {
          longer(number, Frame.NumberPart.FRACTION, number.digits() + 1, b, shape, next);
        } else if (number.part() == Frame.NumberPart.FRACTION) {
          exponent(number, b, shape, next);
        }
      }
      case E, EXPONENT_SIGN, EXPONENT -> {
        if (isDigit(b)
            && (number.part() != Frame.NumberPart.EXPONENT
                || number.digits() < Shape.Numeric.EXPONENT_DIGITS)) {
          int digits = number.part() == Frame.NumberPart.EXPONENT ? number.digits() + 1 : 1;
          longer(number, Frame.NumberPart.EXPONENT, digits, b, shape, next);
        } else if (number.part() == Frame.NumberPart.E && (b == '+' || b == '-')) {
          longer(number, Frame.NumberPart.EXPONENT_SIGN, 0, b, shape, next);
        }
      }
    }
  }

  private void exponent(Frame.InNumber number, int b, Shape.Numeric shape, List<Frame> next) {
    if ((b == 'e' || b == 'E') && shape.mayHaveExponent()) {
      longer(number, Frame.NumberPart.E, 0, b, shape, next);
    }
  }

  private static void longer(
      Frame.InNumber number,
      Frame.NumberPart part,
      int digits,
      int b,
      Shape.Numeric shape,
      List<Frame> next) {
    BigInteger magnitude = number.magnitude();
    if (shape.bounds() != null && isDigit(b)) {
      magnitude = magnitude.multiply(BigInteger.TEN).add(BigInteger.valueOf(b - '0'));
    }
    int fraction = shape.bounds() != null && part == Frame.NumberPart.FRACTION ? digits : 0;
    addNumber(
        new Frame.InNumber(
            number.shape(), number.negative(), part, digits, magnitude, fraction, number.below()),
        shape,
        next);
  }

  private boolean mayEnd(Frame.InNumber number) {
    var shape = (Shape.Numeric) schema.shape(number.shape());
    Shape.Bounds bounds = shape.bounds();
    if (bounds == null || !number.part().mayEnd()) {
      return number.part().mayEnd();
    }
    BigInteger unit = BigInteger.TEN.pow(shape.fractionDigits() - number.fraction());
    BigInteger magnitude = number.magnitude().multiply(unit);
    BigInteger value = number.negative() ? magnitude.negate() : magnitude;
    return value.compareTo(bounds.lowest()) >= 0 && value.compareTo(bounds.highest()) <= 0;
  }

  /// Adds a number that may end here or later.
  private static void addNumber(Frame.InNumber number, Shape.Numeric shape, List<Frame> next) {
    Shape.Bounds bounds = shape.bounds();
    if (bounds == null) {
      add(next, number);
      return;
    }
    BigInteger lowest = number.negative() ? bounds.highest().negate() : bounds.lowest();
    BigInteger highest = number.negative() ? bounds.lowest().negate() : bounds.highest();
    boolean isWhole = number.part() == Frame.NumberPart.WHOLE;
    boolean isSign = number.part() == Frame.NumberPart.SIGN;
    int open = shape.fractionDigits() - number.fraction(); // digits that may follow
    int more = isSign || isWhole ? Shape.Numeric.WHOLE_DIGITS - number.digits() : 0;
    for (int i = isSign ? more : 0; i <= more; i++) {
      BigInteger unit = BigInteger.TEN.pow(open + i);
      BigInteger from = number.magnitude().multiply(unit);
      BigInteger to = from.add(unit).subtract(BigInteger.ONE);
      if (from.compareTo(highest) <= 0 && to.compareTo(lowest) >= 0) {
        add(next, number);
        return;
      }
    }
  }

  private CharacterAutomaton words(Frame.InLiteral literal) {
    return ((Shape.Literals) schema.shape(literal.shape())).words();
  }

  private void literal(Frame.InLiteral literal, int b, List<Frame> next) {
    var words = words(literal);
    if (words.accepts(literal.state())) {
      step(literal.below(), b, next);
    }
    addLiteral(
        new Frame.InLiteral(literal.shape(), words.next(literal.state(), b), literal.below()),
        words,
        next);
  }

  private static void addLiteral(
      Frame.InLiteral literal, CharacterAutomaton words, List<Frame> next) {
    if (literal.state() >= 0) {
      add(next, words.continues(literal.state()) ? literal : literal.below());
    }
  }

  // ---------------------------------------------------------------- arrays

  private void array(Frame.InArray array, int b, List<Frame> next) {
    var shape = (Shape.Items) schema.shape(array.shape());
    boolean mayClose = array.place() != Frame.Place.COMMA && array.count() >= shape.fewest();
    boolean isClosing = array.place() == Frame.Place.VALUE && array.blanks() > NO_BLANKS;
    if (isBlank(b)) {
      int blanks = blanks(array.blanks(), array.level(), b);
      if (blanks > 0 && (mayClose || array.place() != Frame.Place.VALUE)) {
        add(
            next,
            new Frame.InArray(
                array.shape(), array.level(), array.count(), array.place(), blanks, array.below()));
      }
    } else if (b == ']') {
      if (mayClose) {
        add(next, array.below());
      }
    } else if (array.place() != Frame.Place.VALUE) {
      int item = shape.item(array.count());
      var below = at(array, counted(shape, array.count()), Frame.Place.VALUE);
      begin(item, array.level(), b, below, next);
    } else if (b == ',' && !isClosing && schema.fits(shape.item(array.count()), array.level())) {
      add(next, at(array, array.count(), Frame.Place.COMMA));
    }
  }

  private static Frame.InArray at(Frame.InArray array, int count, Frame.Place place) {
    return new Frame.InArray(array.shape(), array.level(), count, place, NO_BLANKS, array.below());
  }

  /// Items with one more, counted as long as the number decides what may follow.
  private static int counted(Shape.Items shape, int count) {
    return shape.most() == Integer.MAX_VALUE
        ? Math.min(count + 1, Math.max(shape.fewest(), shape.first().size()))
        : count + 1;
  }

  // ---------------------------------------------------------------- objects

  private void object(Frame.InObject object, int b, List<Frame> next) {
    var shape = (Shape.Members) schema.shape(object.shape());
    if (isBlank(b)) {
      int blanks = blanks(object.blanks(), object.level(), b);
      boolean isWanted =
          switch (object.place()) {
            case OPEN, COMMA, COLON -> true;
            case NAME -> false;
            case VALUE -> hasRequired(shape, object);
          };
      if (blanks > 0 && isWanted) {
        add(next, at(object, object.place(), blanks));
      }
      return;
    }
    switch (object.place()) {
      case OPEN, COMMA -> {
        if (b == '"' && mayHaveMore(shape, object)) {
          add(next, new Frame.InName(object, StringLexer.BODY, 0, ""));
        } else if (b == '}' && object.place() == Frame.Place.OPEN && hasRequired(shape, object)) {
          add(next, object.below());
        }
      }
      case NAME -> {
        if (b == ':') {
          add(next, at(object, Frame.Place.COLON, NO_BLANKS));
        }
      }
      case COLON -> {
        var below =
            new Frame.InObject(
                object.shape(),
                object.level(),
                object.used(),
                object.others(),
                Frame.Place.VALUE,
                JsonSchema.NONE,
                NO_BLANKS,
                object.below());
        begin(object.value(), object.level(), b, below, next);
      }
      case VALUE -> {
        if (b == '}' && hasRequired(shape, object)) {
          add(next, object.below());
        } else if (b == ',' && object.blanks() == NO_BLANKS && mayHaveMore(shape, object)) {
          add(next, at(object, Frame.Place.COMMA, NO_BLANKS));
        }
      }
    }
  }

  private static Frame.InObject at(Frame.InObject object, Frame.Place place, int blanks) {
    return new Frame.InObject(
        object.shape(),
        object.level(),
        object.used(),
        object.others(),
        place,
        object.value(),
        blanks,
        object.below());
  }

  private static boolean hasRequired(Shape.Members shape, Frame.InObject object) {
    for (int i = shape.required().nextSetBit(0); i >= 0; i = shape.required().nextSetBit(i + 1)) {
      if (!object.used().get(i)) {
        return false;
      }
    }
    return true;
  }

  private boolean mayHaveMore(Shape.Members shape, Frame.InObject object) {
    return takesOthers(shape, object) || isUnused(shape, object, 0, shape.shapes().size());
  }

  /// Whether an object may have properties that are not named.
  private boolean takesOthers(Shape.Members shape, Frame.InObject object) {
    return schema.fits(shape.others(), object.level());
  }

  /// Whether one of some named properties may come next.
  private boolean isUnused(Shape.Members shape, Frame.InObject object, int from, int to) {
    for (int i = object.used().nextClearBit(from); i < to; i = object.used().nextClearBit(i + 1)) {
      if (schema.fits(shape.shapes().get(i), object.level())) {
        return true;
      }
    }
    return false;
  }

  /// Whether a name may be another than those that are named.
  boolean isOpen(Frame.InName name) {
    return takesOthers((Shape.Members) schema.shape(name.object().shape()), name.object());
  }

  private void name(Frame.InName name, int b, List<Frame> next) {
    Frame.InObject object = name.object();
    var shape = (Shape.Members) schema.shape(object.shape());
    boolean isOpen = takesOthers(shape, object);
    long step = StringLexer.step(name.lexer(), b);
    if (step == StringLexer.DEAD) {
      return;
    }
    if (step == StringLexer.CLOSE) {
      named(shape, name, isOpen, next);
      return;
    }
    int character = StringLexer.character(step);
    int state = name.state();
    if (character >= 0 && state >= 0) {
      state = shape.names().next(state, character);
    }
    boolean leadsOn = isOpen || leadsToAName(shape, object, state, step);
    if (leadsOn) {
      String text =
          isOpen && character >= 0 ? name.name() + Character.toString(character) : name.name();
      add(next, new Frame.InName(object, (int) step, state, text));
    }
  }

  private boolean leadsToAName(Shape.Members shape, Frame.InObject object, int state, long step) {
    if (state < 0) {
      return false;
    }
    var names = shape.names();
    if (StringLexer.character(step) >= 0) {
      return isUnused(shape, object, names.wordsFrom(state), names.wordsTo(state));
    }
    return StringLexer.canBecome(
        (int) step,
        (low, high) ->
            names.overlaps(
                state,
                low,
                high,
                to -> isUnused(shape, object, names.wordsFrom(to), names.wordsTo(to))));
  }

  /// A name that is closed: one of those that are named, or another that the object does not have.
  private void named(Shape.Members shape, Frame.InName name, boolean isOpen, List<Frame> next) {
    Frame.InObject object = name.object();
    boolean isNamed = name.state() >= 0 && shape.names().accepts(name.state());
    var used = object.used();
    var others = object.others();
    int value;
    if (isNamed) {
      int word = shape.names().wordsFrom(name.state());
      value = shape.shapes().get(word);
      if (used.get(word) || !schema.fits(value, object.level())) {
        return;
      }
      used = (BitSet) used.clone();
      used.set(word);
    } else {
      value = shape.others();
      if (!isOpen || others.contains(name.name())) {
        return;
      }
      others = new HashSet<>(others);
      others.add(name.name());
    }
    add(
        next,
        new Frame.InObject(
            object.shape(),
            object.level(),
            used,
            others,
            Frame.Place.NAME,
            value,
            NO_BLANKS,
            object.below()));
  }
}
