package dev.sluice.schema;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.math.RoundingMode;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.Collections;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;

/// From JSON to a [JsonSchema]. Every schema in the file becomes one shape, however often it is
/// referred to, so that the work is that of the file's size.
final class SchemaReader {
  /// Shapes of a schema.
  private static final int MOST_SHAPES = 10_000;

  /// Alternatives of one place, those of alternatives included.
  static final int MOST_ALTERNATIVES = 256;

  /// Characters of all names and texts that a schema lists.
  private static final int MOST_CHARACTERS = 1 << 18;

  /// States of all patterns of a schema.
  private static final int MOST_PATTERN_STATES = 40_000;

  /// Properties of two objects in which they may exclude each other.
  private static final int MOST_COMPARED = 64;

  private static final int MOST_NOTES = 20;
  private static final int SHOWN = 60;

  /// Powers of ten beyond all numbers that are written.
  private static final int LIMIT_DIGITS = 100;

  /// What says nothing about which values are valid.
  private static final Set<String> REMARKS =
      Set.of(
          "$schema",
          "$comment",
          "$defs",
          "definitions",
          "title",
          "description",
          "default",
          "examples",
          "deprecated",
          "readOnly",
          "writeOnly",
          "contentEncoding",
          "contentMediaType",
          "contentSchema",
          "discriminator");

  private static final Set<String> OF_OBJECTS =
      Set.of("properties", "required", "additionalProperties");
  private static final Set<String> OF_ARRAYS =
      Set.of("items", "prefixItems", "minItems", "maxItems");
  private static final Set<String> OF_STRINGS = Set.of("minLength", "maxLength", "pattern");
  private static final Set<String> OF_NUMBERS =
      Set.of("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum");
  private static final Set<String> OTHERS =
      Set.of("type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref");

  private static final List<String> TYPES =
      List.of("object", "array", "string", "number", "integer", "boolean", "null");

  // The shapes that every schema has, by their numbers.
  private static final int ANY = 0;
  private static final int ANY_OBJECT = 1;
  private static final int ANY_ARRAY = 2;
  private static final int ANY_STRING = 3;
  private static final int ANY_NUMBER = 4;
  private static final int BOOLEAN = 5;
  private static final int NULL = 6;
  private static final int NOTHING = 7;

  /// Where a schema stands; its text is only made for messages.
  private record Place(@Nullable Place parent, String name) {
    static final Place ROOT = new Place(null, "#");

    Place at(String key) {
      return new Place(this, key);
    }

    @Override
    public String toString() {
      var names = new ArrayDeque<String>();
      for (Place place = this; place != null; place = place.parent) {
        names.push(Printable.brief(place.name, SHOWN));
      }
      return String.join("/", names);
    }
  }

  private record Open(int number, JsonNode schema, Place place) {}

  /// The alternatives of a `oneOf`.
  private record Exclusive(List<Integer> numbers, Place place) {}

  private final String name;
  private final JsonNode document;
  private final List<Shape> shapes = new ArrayList<>(fixed());
  private final IdentityHashMap<JsonNode, Integer> numbers = new IdentityHashMap<>();
  private final Map<Integer, Place> unions = new HashMap<>();
  private final List<Exclusive> exclusive = new ArrayList<>();
  private final ArrayDeque<Open> open = new ArrayDeque<>();
  private final List<String> notes = new ArrayList<>();
  private int characters;
  private int patternStates;

  SchemaReader(String name, JsonNode document) {
    this.name = name;
    this.document = document;
  }

  private static List<Shape> fixed() {
    return List.of(
        new Shape.Union(List.of(ANY_OBJECT, ANY_ARRAY, ANY_STRING, ANY_NUMBER, BOOLEAN, NULL)),
        new Shape.Members(
            CharacterAutomaton.ofWords(List.of()), List.of(), List.of(), new BitSet(), ANY),
        new Shape.Items(List.of(), ANY, 0, Integer.MAX_VALUE),
        Shape.Text.ANY,
        Shape.Numeric.ANY,
        new Shape.Literals(CharacterAutomaton.ofWords(List.of("false", "true"))),
        new Shape.Literals(CharacterAutomaton.ofWords(List.of("null"))),
        new Shape.Union(List.of()));
  }

  static JsonSchema anyObject() {
    return new JsonSchema(fixed(), ANY_OBJECT, List.of());
  }

  JsonSchema read() {
    int root = number(document, Place.ROOT);
    while (!open.isEmpty()) {
      Open next = open.pop();
      shapes.set(next.number, shape(next.schema, next.place, next.number));
    }
    flatten();
    exclusive.forEach(this::requireNothingInCommon);
    var schema = new JsonSchema(shapes, root, notes);
    if (!schema.fits(root, 0)) {
      throw new InvalidInputException(
          "%s allows no value that nests at most %d arrays and objects; look for a property that must be there and cannot, for a reference without an end, for bounds that exclude each other, or for numbers of more than %d digits"
              .formatted(name, JsonSchema.LEVELS, Shape.Numeric.WHOLE_DIGITS));
    }
    return schema;
  }

  private InvalidInputException refused(Place place, String why) {
    return new InvalidInputException(
        "%s cannot be followed at %s: %s".formatted(name, Printable.brief(place, 200), why));
  }

  private void note(Place place, String what) {
    if (notes.size() < MOST_NOTES) {
      notes.add("%s: %s.".formatted(Printable.brief(place, 200), what));
    }
  }

  private static String shown(JsonNode node) {
    // A long text is cut before it is written out.
    return node.isContainer()
        ? node.isObject() ? "an object" : "an array"
        : Printable.brief(node.toString(), SHOWN);
  }

  // ---------------------------------------------------------------- numbers

  private int add(Shape shape, Place place) {
    if (shapes.size() == MOST_SHAPES) {
      throw new InvalidInputException(
          "%s has more than %d schemas, and that many are not followed; give a smaller one"
              .formatted(name, MOST_SHAPES));
    }
    shapes.add(shape);
    if (shape instanceof Shape.Union) {
      unions.put(shapes.size() - 1, place);
    }
    return shapes.size() - 1;
  }

  /// The number of the shape that a schema will have.
  private int number(JsonNode schema, Place place) {
    if (schema.isBoolean()) {
      return schema.booleanValue() ? ANY : NOTHING;
    }
    if (!schema.isObject()) {
      throw refused(place, "%s is no schema; an object, true or false is".formatted(shown(schema)));
    }
    Integer known = numbers.get(schema);
    if (known == null) {
      known = add(fixed().get(NOTHING), place);
      numbers.put(schema, known);
      open.push(new Open(known, schema, place));
    }
    return known;
  }

  /// What `$ref` points at in this document.
  private int target(JsonNode ref, Place place) {
    if (!ref.isString() || !ref.stringValue().matches("#(/[\\s\\S]*)?")) {
      throw refused(
          place,
          "the reference %s is none to this document; #/$defs/NAME would be".formatted(shown(ref)));
    }
    JsonNode at = document;
    String pointer = ref.stringValue();
    Place found = Place.ROOT;
    if (pointer.length() > 1) {
      for (String escaped : pointer.substring(2).split("/", -1)) {
        String key = unescaped(escaped, place);
        at =
            at.isArray() && key.matches("\\d{1,9}") ? at.path(Integer.parseInt(key)) : at.path(key);
        found = found.at(key);
      }
    }
    if (at.isMissingNode()) {
      throw refused(
          place, "the reference %s points at nothing in this document".formatted(shown(ref)));
    }
    return number(at, found);
  }

  private String unescaped(String key, Place place) {
    try {
      return URLDecoder.decode(key.replace("+", "%2B"), StandardCharsets.UTF_8)
          .replace("~1", "/")
          .replace("~0", "~");
    } catch (IllegalArgumentException e) {
      throw refused(
          place, "the reference has %s, which is no escape".formatted(Printable.brief(key, SHOWN)));
    }
  }

  // ---------------------------------------------------------------- one schema

  private Shape shape(JsonNode schema, Place place, int number) {
    Set<String> decides = new LinkedHashSet<>();
    for (var property : schema.properties()) {
      String key = property.getKey();
      if (key.equals("format")) {
        note(place, "format %s is not enforced".formatted(shown(property.getValue())));
      } else if (OTHERS.contains(key)
          || OF_OBJECTS.contains(key)
          || OF_ARRAYS.contains(key)
          || OF_STRINGS.contains(key)
          || OF_NUMBERS.contains(key)) {
        decides.add(key);
      } else if (!isRemark(key, property.getValue(), place)) {
        throw refused(
            place,
            "the keyword %s is not supported; leave it out, or say it in the prompt"
                .formatted(Printable.brief(key, SHOWN)));
      }
    }
    for (String alone : List.of("$ref", "anyOf", "oneOf", "allOf")) {
      if (decides.contains(alone)) {
        return choice(schema, alone, decides, place, number);
      }
    }
    if (decides.contains("const")) {
      requireOnly("const", decides, Set.of("type"), place);
      return values(List.of(schema.get("const")), schema, place.at("const"));
    }
    if (decides.contains("enum")) {
      requireOnly("enum", decides, Set.of("type"), place);
      if (!schema.get("enum").isArray()) {
        throw refused(place, "enum is %s and no array".formatted(shown(schema.get("enum"))));
      }
      return values(schema.get("enum").values(), schema, place.at("enum"));
    }
    List<Integer> alternatives = new ArrayList<>();
    for (String type : types(schema, decides, place)) {
      alternatives.add(ofType(type, schema, place));
    }
    unions.put(number, place);
    return new Shape.Union(alternatives);
  }

  private static boolean isRemark(String key, JsonNode value, Place place) {
    return REMARKS.contains(key)
        || key.startsWith("x-")
        || (key.equals("$id") && place.parent == null)
        || (key.equals("uniqueItems") && value.isBoolean() && !value.booleanValue());
  }

  private void requireOnly(String key, Set<String> decides, Set<String> with, Place place) {
    for (String other : decides) {
      if (!other.equals(key) && !with.contains(other)) {
        throw refused(
            place,
            "%s stands beside %s, and both at once are not supported; write the values as one schema"
                .formatted(key, other));
      }
    }
  }

  private Shape choice(JsonNode schema, String key, Set<String> decides, Place place, int number) {
    requireOnly(key, decides, Set.of(), place);
    JsonNode given = schema.get(key);
    unions.put(number, place);
    if (key.equals("$ref")) {
      return new Shape.Union(List.of(target(given, place)));
    }
    if (!given.isArray() || given.isEmpty()) {
      throw refused(place, "%s is %s and no array of schemas".formatted(key, shown(given)));
    }
    if (key.equals("allOf") && given.size() > 1) {
      throw refused(place, "allOf of several schemas is not supported; write them as one schema");
    }
    List<Integer> alternatives = new ArrayList<>();
    for (int i = 0; i < given.size(); i++) {
      alternatives.add(number(given.get(i), place.at(key).at(String.valueOf(i))));
    }
    if (key.equals("oneOf") && given.size() > 1) {
      exclusive.add(new Exclusive(alternatives, place));
    }
    return new Shape.Union(alternatives);
  }

  /// The types of a schema; where it names none, those that its keywords are about.
  private List<String> types(JsonNode schema, Set<String> decides, Place place) {
    JsonNode given = schema.get("type");
    if (given == null) {
      List<String> about = new ArrayList<>();
      addIfAny(about, "object", OF_OBJECTS, decides);
      addIfAny(about, "array", OF_ARRAYS, decides);
      addIfAny(about, "string", OF_STRINGS, decides);
      addIfAny(about, "number", OF_NUMBERS, decides);
      if (about.isEmpty()) {
        return List.of("object", "array", "string", "number", "boolean", "null");
      }
      note(
          place,
          "there is no type, so %s is meant, which is what %s"
              .formatted(
                  String.join(" or ", about),
                  String.join(", ", decides) + (decides.size() == 1 ? " is about" : " are about")));
      return about;
    }
    List<JsonNode> names = given.isArray() ? List.copyOf(given.values()) : List.of(given);
    Set<String> types = new LinkedHashSet<>();
    for (JsonNode type : names) {
      if (!type.isString() || !TYPES.contains(type.stringValue())) {
        throw refused(
            place, "the type %s is none of %s".formatted(shown(type), String.join(", ", TYPES)));
      }
      types.add(type.stringValue());
    }
    if (types.isEmpty()) {
      throw refused(place, "type is an empty array; name a type");
    }
    if (types.contains("number")) {
      types.remove("integer");
    }
    return List.copyOf(types);
  }

  private static void addIfAny(
      List<String> about, String type, Set<String> keywords, Set<String> decides) {
    if (decides.stream().anyMatch(keywords::contains)) {
      about.add(type);
    }
  }

  private int ofType(String type, JsonNode schema, Place place) {
    return switch (type) {
      case "object" -> members(schema, place);
      case "array" -> items(schema, place);
      case "string" -> text(schema, place);
      case "number" -> number(schema, place, Shape.Numeric.FRACTION_DIGITS);
      case "integer" -> number(schema, place, 0);
      case "boolean" -> BOOLEAN;
      default -> NULL;
    };
  }

  // ---------------------------------------------------------------- objects and arrays

  private int members(JsonNode schema, Place place) {
    JsonNode properties = schema.path("properties");
    if (!properties.isObject() && !properties.isMissingNode()) {
      throw refused(place, "properties is %s and no object".formatted(shown(properties)));
    }
    JsonNode additional = schema.path("additionalProperties");
    int others =
        additional.isMissingNode() ? ANY : number(additional, place.at("additionalProperties"));
    Map<String, Integer> shapeOf = new HashMap<>();
    for (var property : properties.properties()) {
      shapeOf.put(
          property.getKey(),
          number(property.getValue(), place.at("properties").at(property.getKey())));
    }
    JsonNode given = schema.path("required");
    if (!given.isArray() && !given.isMissingNode()) {
      throw refused(place, "required is %s and no array of names".formatted(shown(given)));
    }
    Set<String> required = new LinkedHashSet<>();
    for (JsonNode one : given) {
      if (!one.isString()) {
        throw refused(place, "required lists %s, which is no name".formatted(shown(one)));
      }
      required.add(one.stringValue());
      shapeOf.putIfAbsent(one.stringValue(), others);
    }
    return add(members(shapeOf, required, others, place), place);
  }

  private Shape.Members members(
      Map<String, Integer> shapeOf, Set<String> required, int others, Place place) {
    List<String> sorted = sorted(shapeOf.keySet(), place);
    var mustBe = new BitSet();
    for (int i = 0; i < sorted.size(); i++) {
      mustBe.set(i, required.contains(sorted.get(i)));
    }
    return new Shape.Members(
        CharacterAutomaton.ofWords(sorted),
        sorted,
        sorted.stream().map(one -> Objects.requireNonNull(shapeOf.get(one))).toList(),
        mustBe,
        others == NOTHING ? JsonSchema.NONE : others);
  }

  /// Words as an automaton takes them; what a schema lists in all is bounded.
  private List<String> sorted(Set<String> words, Place place) {
    for (String word : words) {
      characters += word.length() + 1;
      if (word.codePoints().anyMatch(c -> c >= 0xD800 && c <= 0xDFFF)) {
        throw refused(
            place, "%s has half of a surrogate pair".formatted(Printable.brief(word, SHOWN)));
      }
    }
    if (characters > MOST_CHARACTERS) {
      throw refused(
          place,
          "names and values have more than %d characters up to here, and that many are not followed; give a smaller schema"
              .formatted(MOST_CHARACTERS));
    }
    return words.stream().sorted(CharacterAutomaton.BY_CHARACTERS).toList();
  }

  private int items(JsonNode schema, Place place) {
    JsonNode given = schema.path("items");
    if (given.isArray()) {
      throw refused(place, "items is an array; name the schemas of the first items prefixItems");
    }
    int others = given.isMissingNode() ? ANY : number(given, place.at("items"));
    JsonNode prefix = schema.path("prefixItems");
    if (!prefix.isArray() && !prefix.isMissingNode()) {
      throw refused(place, "prefixItems is %s and no array".formatted(shown(prefix)));
    }
    List<Integer> first = new ArrayList<>();
    for (int i = 0; i < prefix.size(); i++) {
      first.add(number(prefix.get(i), place.at("prefixItems").at(String.valueOf(i))));
    }
    return add(
        new Shape.Items(
            first,
            others == NOTHING ? JsonSchema.NONE : others,
            count(schema, "minItems", 0, place),
            count(schema, "maxItems", Integer.MAX_VALUE, place)),
        place);
  }

  private int count(JsonNode schema, String key, int usual, Place place) {
    JsonNode given = schema.get(key);
    if (given == null) {
      return usual;
    }
    boolean isWhole =
        given.isNumber()
            && decimal(given).signum() >= 0
            && decimal(given).stripTrailingZeros().scale() <= 0;
    if (!isWhole) {
      throw refused(place, "%s is %s and no whole number from 0".formatted(key, shown(given)));
    }
    BigDecimal most = BigDecimal.valueOf(Integer.MAX_VALUE);
    return decimal(given).min(most).intValue();
  }

  /// A number's value; one that is too large for the type that a parser gave it is very large.
  private static BigDecimal decimal(JsonNode number) {
    return isHeld(number)
        ? number.decimalValue()
        : BigDecimal.TEN
            .pow(LIMIT_DIGITS)
            .multiply(BigDecimal.valueOf(number.doubleValue() > 0 ? 1 : -1));
  }

  private static boolean isHeld(JsonNode number) {
    return !(number.isDouble() || number.isFloat()) || Double.isFinite(number.doubleValue());
  }

  // ---------------------------------------------------------------- strings and numbers

  private int text(JsonNode schema, Place place) {
    int shortest = count(schema, "minLength", 0, place);
    int longest = count(schema, "maxLength", Integer.MAX_VALUE, place);
    JsonNode pattern = schema.get("pattern");
    if (shortest > longest) {
      return NOTHING;
    }
    if (pattern == null) {
      return add(new Shape.Text(shortest, longest, null), place);
    }
    if (!pattern.isString()) {
      throw refused(place, "pattern is %s and no string".formatted(shown(pattern)));
    }
    String quoted = Printable.brief(pattern.stringValue(), SHOWN);
    try {
      var automaton = RegularExpression.automaton(pattern.stringValue());
      if (automaton != null && (shortest > 0 || longest < Integer.MAX_VALUE)) {
        automaton = automaton.ofLength(shortest, longest, RegularExpression.MOST_STATES);
      }
      patternStates += automaton == null ? 0 : automaton.states();
      if (patternStates > MOST_PATTERN_STATES) {
        throw refused(
            place,
            "the automata of all patterns have more than %d states up to here; give fewer or simpler ones"
                .formatted(MOST_PATTERN_STATES));
      }
      return automaton == null ? NOTHING : add(new Shape.Text(0, 0, automaton), place);
    } catch (RegularExpression.Refused e) {
      throw refused(place, "the pattern %s is not supported: %s".formatted(quoted, e.getMessage()));
    } catch (IllegalArgumentException e) {
      throw refused(
          place,
          "the pattern %s with minLength or maxLength needs %s; say the length in the pattern"
              .formatted(quoted, e.getMessage()));
    }
  }

  private int number(JsonNode schema, Place place, int fractionDigits) {
    BigDecimal step = BigDecimal.ONE.movePointLeft(fractionDigits);
    BigDecimal beyond = BigDecimal.TEN.pow(Shape.Numeric.WHOLE_DIGITS).subtract(step);
    BigDecimal lowest = beyond.negate();
    BigDecimal highest = beyond;
    boolean isBounded = false;
    for (String key : new TreeSet<>(OF_NUMBERS)) {
      JsonNode given = schema.get(key);
      if (given == null) {
        continue;
      }
      if (!given.isNumber()) {
        throw refused(place, "%s is %s and no number".formatted(key, shown(given)));
      }
      isBounded = true;
      BigDecimal bound = within(decimal(given), beyond);
      boolean excludes = key.startsWith("exclusive");
      if (key.endsWith("inimum")) {
        BigDecimal least = bound.setScale(fractionDigits, RoundingMode.CEILING);
        lowest = lowest.max(excludes && least.compareTo(bound) == 0 ? least.add(step) : least);
      } else {
        BigDecimal most = bound.setScale(fractionDigits, RoundingMode.FLOOR);
        highest = highest.min(excludes && most.compareTo(bound) == 0 ? most.subtract(step) : most);
      }
    }
    if (lowest.compareTo(highest) > 0) {
      return NOTHING;
    }
    var bounds =
        isBounded
            ? new Shape.Bounds(units(lowest, fractionDigits), units(highest, fractionDigits))
            : null;
    return add(new Shape.Numeric(fractionDigits, bounds), place);
  }

  /// A bound that is far beyond the numbers that are written, or far closer to 0, as one that
  /// bounds the same ones; the digits of 1e999999999 are never made.
  private static BigDecimal within(BigDecimal bound, BigDecimal beyond) {
    BigDecimal limit = beyond.add(BigDecimal.TEN);
    if (bound.precision() - (long) bound.scale() > Shape.Numeric.WHOLE_DIGITS + 1) {
      return bound.signum() < 0 ? limit.negate() : limit;
    }
    boolean isTiny =
        bound.signum() != 0 && bound.precision() - (long) bound.scale() < -LIMIT_DIGITS;
    return isTiny ? BigDecimal.valueOf(bound.signum()).movePointLeft(LIMIT_DIGITS) : bound;
  }

  private static BigInteger units(BigDecimal bound, int fractionDigits) {
    return bound.movePointRight(fractionDigits).toBigIntegerExact();
  }

  // ---------------------------------------------------------------- values that are listed

  /// One of some values, those of a type that `type` excludes left out.
  private Shape values(Iterable<JsonNode> values, JsonNode schema, Place place) {
    List<JsonNode> kept = new ArrayList<>();
    Set<String> types = new LinkedHashSet<>();
    if (schema.has("type")) {
      types.addAll(types(schema, Set.of("type"), place));
    }
    for (JsonNode value : values) {
      if (value.isNumber() && !isHeld(value)) {
        throw refused(place, "a number has more digits than a number here can have");
      }
      if (types.isEmpty() || types.contains(type(value, types))) {
        kept.add(value);
      }
    }
    return new Shape.Union(alternatives(kept, place));
  }

  private static String type(JsonNode value, Set<String> types) {
    if (value.isNumber()) {
      boolean isWhole =
          value.isIntegralNumber() || value.decimalValue().stripTrailingZeros().scale() <= 0;
      return isWhole && !types.contains("number") ? "integer" : "number";
    }
    return value.isObject()
        ? "object"
        : value.isArray()
            ? "array"
            : value.isString() ? "string" : value.isBoolean() ? "boolean" : "null";
  }

  private List<Integer> alternatives(List<JsonNode> values, Place place) {
    Set<String> texts = new LinkedHashSet<>();
    Set<String> literals = new LinkedHashSet<>();
    List<Integer> numbers = new ArrayList<>();
    for (JsonNode value : values) {
      if (value.isString()) {
        texts.add(value.stringValue());
      } else if (!value.isContainer()) {
        literals.add(value.toString());
      } else {
        numbers.add(only(value, place));
      }
    }
    if (!texts.isEmpty()) {
      var words = CharacterAutomaton.ofWords(sorted(texts, place));
      numbers.add(add(new Shape.Text(0, 0, words), place));
    }
    if (!literals.isEmpty()) {
      var words = CharacterAutomaton.ofWords(sorted(literals, place));
      numbers.add(add(new Shape.Literals(words), place));
    }
    return numbers;
  }

  /// The shape of exactly one value; arrays and objects have theirs inside, as deep as a parser
  /// lets them be.
  private int only(JsonNode value, Place place) {
    if (value.isArray()) {
      List<Integer> items = new ArrayList<>();
      value.forEach(item -> items.add(only(item, place)));
      return add(new Shape.Items(items, JsonSchema.NONE, items.size(), items.size()), place);
    }
    if (value.isObject()) {
      Map<String, Integer> shapeOf = new HashMap<>();
      for (var property : value.properties()) {
        shapeOf.put(property.getKey(), only(property.getValue(), place));
      }
      return add(members(shapeOf, shapeOf.keySet(), NOTHING, place), place);
    }
    return alternatives(List.of(value), place).getFirst();
  }

  // ---------------------------------------------------------------- unions

  /// Puts the alternatives of alternatives in their place, each once.
  private void flatten() {
    Map<Integer, Shape> flat = new HashMap<>();
    for (var union : unions.entrySet()) {
      Set<Integer> leaves = new LinkedHashSet<>();
      var seen = new BitSet();
      var waiting = new ArrayDeque<Integer>(List.of(union.getKey()));
      while (!waiting.isEmpty()) {
        int next = waiting.pop();
        if (seen.get(next)) {
          continue;
        }
        seen.set(next);
        if (shapes.get(next) instanceof Shape.Union more) {
          more.alternatives().reversed().forEach(waiting::push);
        } else if (leaves.add(next) && leaves.size() > MOST_ALTERNATIVES) {
          throw refused(
              union.getValue(),
              "there are more than %d alternatives, and that many are not followed"
                  .formatted(MOST_ALTERNATIVES));
        }
      }
      flat.put(union.getKey(), new Shape.Union(List.copyOf(leaves)));
    }
    flat.forEach(shapes::set);
  }

  /// Says it where two alternatives of a `oneOf` may hold of one value.
  private void requireNothingInCommon(Exclusive oneOf) {
    List<Integer> numbers = oneOf.numbers;
    for (int a = 0; a < numbers.size(); a++) {
      for (int b = a + 1; b < numbers.size(); b++) {
        if (!areDisjoint(numbers.get(a), numbers.get(b), 1)) {
          note(
              oneOf.place,
              "oneOf is read as anyOf, since it cannot be seen that its alternatives exclude each"
                  + " other");
          return;
        }
      }
    }
  }

  /// Whether no value has both shapes, as far as that is seen: by their types, by the texts that
  /// they list, or by a property that both must have.
  private boolean areDisjoint(int a, int b, int levels) {
    Shape one = shapes.get(a);
    Shape other = shapes.get(b);
    if (one instanceof Shape.Union union) {
      return union.alternatives().stream().allMatch(each -> areDisjoint(each, b, levels));
    }
    if (other instanceof Shape.Union) {
      return areDisjoint(b, a, levels);
    }
    if (one instanceof Shape.Text first
        && other instanceof Shape.Text second
        && first.automaton() != null
        && second.automaton() != null) {
      return first.automaton().excludes(second.automaton());
    }
    if (one instanceof Shape.Members first && other instanceof Shape.Members second) {
      int compared = 0;
      for (int i = first.required().nextSetBit(0);
          i >= 0 && levels > 0 && compared++ < MOST_COMPARED;
          i = first.required().nextSetBit(i + 1)) {
        int j =
            Collections.binarySearch(
                second.sorted(), first.sorted().get(i), CharacterAutomaton.BY_CHARACTERS);
        if (j >= 0
            && second.required().get(j)
            && areDisjoint(first.shapes().get(i), second.shapes().get(j), levels - 1)) {
          return true;
        }
      }
      return false;
    }
    boolean bothMayBeNumbers = isNumberOrLiteral(one) && isNumberOrLiteral(other);
    if (bothMayBeNumbers) {
      return (a == BOOLEAN || a == NULL || b == BOOLEAN || b == NULL)
          && a != b
          && (!(one instanceof Shape.Literals)
              || !(other instanceof Shape.Literals)
              || (a <= NULL && b <= NULL));
    }
    return one.getClass() != other.getClass();
  }

  private static boolean isNumberOrLiteral(Shape shape) {
    return shape instanceof Shape.Numeric || shape instanceof Shape.Literals;
  }
}
