package dev.sluice.template;

import static dev.sluice.template.Numbers.whole;

import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.BiConsumer;
import org.jspecify.annotations.Nullable;

/// What values of a template are and do, as in Python.
///
/// A value is [None], a `Boolean`, a `BigInteger`, a `Double`, a [Text], a `List` or one of the
/// types below. None changes but a [Namespace], so that no value holds itself but through one.
final class Values {
  record Tuple(List<Object> items) {}

  /// What `keys`, `values` and `items` of a mapping give.
  record View(String name, List<Object> items) {}

  /// What can be gone through once, such as `map` gives.
  record Once(Iterator<Object> items) {}

  record Range(long start, long stop, long step, int count) {
    long get(int index) {
      return start + index * step;
    }
  }

  /// What is not there: it prints nothing, and is an error where it is used further.
  record Undefined(String message) {
    TemplateFailure failure() {
      return new TemplateFailure(message);
    }
  }

  /// The one kind of value that a template changes.
  static final class Namespace {
    private final Map<String, Object> members;

    Namespace(Map<String, Object> members) {
      this.members = members;
    }

    Map<String, Object> members() {
      return members;
    }
  }

  record Function(String name, Body body) {
    interface Body {
      Object call(Arguments arguments);
    }
  }

  /// A mapping in the order in which its keys came.
  static final class Dict {
    private record Entry(Object key, Object value) {}

    private final Map<Object, Entry> entries = new LinkedHashMap<>();

    void put(Object key, Object value) {
      Entry before = entries.get(key(key));
      entries.put(key(key), new Entry(before == null ? key : before.key, value));
    }

    @Nullable Object get(Object key) {
      Entry entry = entries.get(key(key));
      return entry == null ? null : entry.value;
    }

    @Nullable Object get(String key) {
      Entry entry = entries.get(key);
      return entry == null ? null : entry.value;
    }

    int size() {
      return entries.size();
    }

    void each(BiConsumer<Object, Object> action) {
      entries.values().forEach(entry -> action.accept(entry.key, entry.value));
    }

    List<Object> keys() {
      return new ArrayList<>(entries.values().stream().map(Entry::key).toList());
    }

    List<Object> values() {
      return new ArrayList<>(entries.values().stream().map(Entry::value).toList());
    }

    List<Object> items() {
      var items = new ArrayList<Object>();
      each((key, value) -> items.add(new Tuple(List.of(key, value))));
      return items;
    }
  }

  /// A range of more is refused, as in the sandbox of `transformers`.
  private static final int LONGEST_RANGE = 100_000;

  private final Work work;

  Values(Work work) {
    this.work = work;
  }

  Work work() {
    return work;
  }

  /// What Java compares where Python compares values: equal for 1, 1.0 and True.
  static Object key(Object value) {
    return switch (value) {
      case Text text -> text.string();
      case Boolean truth -> truth ? BigInteger.ONE : BigInteger.ZERO;
      case Double number -> {
        BigInteger whole = number == Math.rint(number) ? Numbers.truncated(number) : null;
        yield whole == null ? number : whole;
      }
      case Tuple tuple -> {
        // A text, which maps order whatever values it was made of.
        var text = new StringBuilder("\0(");
        for (Object item : tuple.items) {
          if (item instanceof Tuple || !(item instanceof Text || isPlain(item))) {
            throw TemplateFailure.outside("a key of nested values");
          }
          Object part = key(item);
          text.append(part.getClass().getSimpleName()).append('\0').append(part).append('\0');
        }
        yield text.toString();
      }
      case Undefined _ -> Undefined.class;
      case View view when view.name.equals("dict_values") -> new Object();
      case List<?> _, Dict _, View _ ->
          throw TemplateFailure.of("a %s cannot be a key", typeName(value));
      default -> value;
    };
  }

  private static boolean isPlain(Object value) {
    return value == None.NONE || Numbers.isNumber(value);
  }

  static String typeName(Object value) {
    return switch (value) {
      case None _ -> "NoneType";
      case Boolean _ -> "bool";
      case BigInteger _ -> "int";
      case Double _ -> "float";
      case Text _ -> "str";
      case List<?> _ -> "list";
      case Tuple _ -> "tuple";
      case Dict _ -> "dict";
      case View view -> view.name;
      case Range _ -> "range";
      case Once _ -> "generator";
      case Undefined _ -> "Undefined";
      case Namespace _ -> "Namespace";
      case Loop _ -> "LoopContext";
      default -> "function";
    };
  }

  /// As Jinja names the owner of what is not there.
  private static String owner(Object value) {
    return switch (value) {
      case None _ -> "None";
      case Namespace _ -> "jinja2.utils.Namespace object";
      case Loop _ -> "jinja2.runtime.LoopContext object";
      default -> typeName(value) + " object";
    };
  }

  Undefined missing(Object owner, Object name) {
    String shown = repr(name).string();
    return new Undefined(
        name instanceof Text
            ? "'%s' has no attribute %s".formatted(owner(owner), shown)
            : "%s has no element %s".formatted(owner(owner), shown));
  }

  static boolean isTrue(Object value) {
    return switch (value) {
      case None _, Undefined _ -> false;
      case Boolean truth -> truth;
      case BigInteger number -> number.signum() != 0;
      case Double number -> number != 0;
      case Text text -> !text.string().isEmpty();
      case List<?> list -> !list.isEmpty();
      case Tuple tuple -> !tuple.items.isEmpty();
      case Dict dict -> dict.size() > 0;
      case View view -> !view.items.isEmpty();
      case Range range -> range.count > 0;
      default -> true;
    };
  }

  /// Null where the value has no length.
  static @Nullable Integer length(Object value) {
    return switch (value) {
      case Text text -> text.length();
      case List<?> list -> list.size();
      case Tuple tuple -> tuple.items.size();
      case Dict dict -> dict.size();
      case View view -> view.items.size();
      case Range range -> range.count;
      case Undefined _ -> 0;
      case Loop loop -> loop.length();
      default -> null;
    };
  }

  /// Null where the value cannot be gone through.
  @Nullable List<Object> elements(Object value) {
    List<Object> elements =
        switch (value) {
          case Text text -> letters(text);
          case List<?> list -> Values.<Object>plain(list);
          case Tuple tuple -> tuple.items;
          case Dict dict -> dict.keys();
          case View view -> view.items;
          case Range range -> {
            work.spend((long) Work.OBJECT * range.count);
            var numbers = new ArrayList<Object>(range.count);
            for (int i = 0; i < range.count; i++) {
              numbers.add(whole(range.get(i)));
            }
            yield numbers;
          }
          case Once once -> {
            var rest = new ArrayList<Object>();
            once.items.forEachRemaining(rest::add);
            yield rest;
          }
          case Undefined _ -> List.of();
          default -> null;
        };
    if (elements != null) {
      work.spend((long) Work.ELEMENT * elements.size());
    }
    return elements;
  }

  @SuppressWarnings("unchecked")
  static <T extends @Nullable Object> List<T> plain(List<?> list) {
    return (List<T>) list;
  }

  List<Object> iterate(Object value) {
    List<Object> elements = elements(value);
    if (elements == null) {
      throw TemplateFailure.of("'%s' object is not iterable", typeName(value));
    }
    return elements;
  }

  private List<Object> letters(Text text) {
    var letters = new ArrayList<Object>();
    String string = text.string();
    work.spend((long) Work.OBJECT * string.length());
    for (int i = 0; i < string.length(); ) {
      int end = i + Character.charCount(string.codePointAt(i));
      letters.add(text.cut(i, end));
      i = end;
    }
    return letters;
  }

  boolean equal(Object a, Object b) {
    if (Numbers.isNumber(a) && Numbers.isNumber(b)) {
      return !Numbers.isNan(a) && !Numbers.isNan(b) && Numbers.compare(a, b) == 0;
    }
    work.enter();
    boolean equal =
        switch (a) {
          case Text text -> {
            work.spend(text.string().length());
            yield b instanceof Text other && text.string().equals(other.string());
          }
          case List<?> list -> b instanceof List<?> other && equal(plain(list), plain(other));
          case Tuple tuple -> b instanceof Tuple other && equal(tuple.items, other.items);
          case Dict dict -> b instanceof Dict other && equal(dict, other);
          case Range _ -> b instanceof Range && equal(iterate(a), iterate(b));
          case Undefined _ -> b instanceof Undefined;
          case View _ -> {
            if (b instanceof View) {
              throw TemplateFailure.outside("a comparison of views of mappings");
            }
            yield false;
          }
          default -> a.equals(b);
        };
    work.leave();
    return equal;
  }

  /// As elements are compared: what is not equal to itself is still found.
  @SuppressWarnings("ReferenceEquality")
  private boolean isSame(Object a, Object b) {
    return a == b || equal(a, b);
  }

  private boolean equal(List<Object> a, List<Object> b) {
    if (a.size() != b.size()) {
      return false;
    }
    for (int i = 0; i < a.size(); i++) {
      if (!isSame(a.get(i), b.get(i))) {
        return false;
      }
    }
    return true;
  }

  private boolean equal(Dict a, Dict b) {
    if (a.size() != b.size()) {
      return false;
    }
    for (Object key : a.keys()) {
      Object one = find(a, key);
      Object other = find(b, key);
      if (one == null || other == null || !equal(one, other)) {
        return false;
      }
    }
    return true;
  }

  /// What stands at a key, or null.
  @Nullable Object find(Dict dict, Object key) {
    work.spend(key instanceof Text text ? text.string().length() : 1);
    return dict.get(key);
  }

  void put(Dict dict, Object key, Object value) {
    work.spend(Work.OBJECT + (key instanceof Text text ? text.string().length() : 1));
    dict.put(key, value);
  }

  /// Less than zero, zero or more, for a comparison by `operator`, which a message names.
  int order(String operator, Object a, Object b) {
    if (Numbers.isNumber(a) && Numbers.isNumber(b)) {
      return Numbers.compare(a, b);
    }
    if (a instanceof Text x && b instanceof Text y) {
      work.spend(Math.min(x.string().length(), y.string().length()));
      return order(x.string(), y.string());
    }
    if (a instanceof List<?> x && b instanceof List<?> y) {
      return order(operator, Values.<Object>plain(x), Values.<Object>plain(y));
    }
    if (a instanceof Tuple x && b instanceof Tuple y) {
      return order(operator, x.items, y.items);
    }
    refuseUndefined(a, b);
    throw TemplateFailure.of(
        "'%s' not supported between instances of '%s' and '%s'",
        operator, typeName(a), typeName(b));
  }

  private int order(String operator, List<Object> a, List<Object> b) {
    work.enter();
    int order = Integer.compare(a.size(), b.size());
    for (int i = 0; i < Math.min(a.size(), b.size()); i++) {
      if (!equal(a.get(i), b.get(i))) {
        order = order(operator, a.get(i), b.get(i));
        break;
      }
    }
    work.leave();
    return order;
  }

  /// By code points, where Java's own order is by halves of pairs.
  private static int order(String a, String b) {
    int i = 0;
    while (i < a.length() && i < b.length() && a.charAt(i) == b.charAt(i)) {
      i++;
    }
    if (i == a.length() || i == b.length()) {
      return Integer.compare(a.length(), b.length());
    }
    int from = i > 0 && Character.isHighSurrogate(a.charAt(i - 1)) ? i - 1 : i;
    return Integer.compare(a.codePointAt(from), b.codePointAt(from));
  }

  static void refuseUndefined(Object... values) {
    for (Object value : values) {
      if (value instanceof Undefined undefined) {
        throw undefined.failure();
      }
    }
  }

  boolean contains(Object container, Object value) {
    if (container instanceof Text text) {
      if (!(value instanceof Text part)) {
        throw TemplateFailure.of(
            "'in <string>' requires string as left operand, not %s", typeName(value));
      }
      work.search(text.string(), part.string());
      return text.string().contains(part.string());
    }
    if (container instanceof Dict dict) {
      return find(dict, value) != null;
    }
    List<Object> elements = elements(container);
    if (elements == null) {
      throw TemplateFailure.of("argument of type '%s' is not iterable", typeName(container));
    }
    return elements.stream().anyMatch(element -> isSame(element, value));
  }

  Object binary(String operator, Object a, Object b) {
    refuseUndefined(a, b);
    if (Numbers.isNumber(a) && Numbers.isNumber(b)) {
      work.spend(Numbers.size(operator, a, b));
      return Numbers.binary(operator, a, b);
    }
    if (operator.equals("+")) {
      if (a instanceof Text x && b instanceof Text y) {
        return sum(x, y);
      }
      if (a instanceof List<?> x && b instanceof List<?> y) {
        return sum(plain(x), plain(y));
      }
      if (a instanceof Tuple x && b instanceof Tuple y) {
        return new Tuple(sum(x.items, y.items));
      }
    }
    if (operator.equals("*")) {
      Object many = Numbers.isNumber(a) ? b : a;
      BigInteger times = Numbers.asWhole(Numbers.isNumber(a) ? a : b);
      if (times != null
          && (many instanceof Text || many instanceof List || many instanceof Tuple)) {
        return repeated(many, times);
      }
    }
    if (operator.equals("%") && a instanceof Text) {
      throw TemplateFailure.outside("a format with '%'");
    }
    throw TemplateFailure.of(
        "unsupported operand type(s) for %s: '%s' and '%s'", operator, typeName(a), typeName(b));
  }

  private Text sum(Text a, Text b) {
    var builder = new Text.Builder(work);
    boolean safe = a.isSafe() || b.isSafe();
    for (Text part : List.of(a, b)) {
      if (safe && !part.isSafe()) {
        escape(part, builder);
      } else {
        builder.append(part);
      }
    }
    return safe ? builder.text().safe() : builder.text();
  }

  /// What `+` does to a text beside one that is marked as safe.
  private static void escape(Text text, Text.Builder builder) {
    String string = text.string();
    for (int i = 0; i < string.length(); i++) {
      String escaped =
          switch (string.charAt(i)) {
            case '&' -> "&amp;";
            case '<' -> "&lt;";
            case '>' -> "&gt;";
            case '"' -> "&#34;";
            case '\'' -> "&#39;";
            default -> string.substring(i, i + 1);
          };
      builder.append(escaped, text.isConversations(i));
    }
  }

  private List<Object> sum(List<Object> a, List<Object> b) {
    work.spend((long) Work.ELEMENT * (a.size() + b.size()));
    var sum = new ArrayList<>(a);
    sum.addAll(b);
    return sum;
  }

  private Object repeated(Object many, BigInteger times) {
    int length = many instanceof Text text ? text.string().length() : iterate(many).size();
    if (times.signum() <= 0 || length == 0) {
      return many instanceof Text
          ? Text.EMPTY
          : many instanceof List ? List.of() : new Tuple(List.of());
    }
    if (times.bitLength() > 31 || times.longValue() * length > Text.MOST) {
      throw TemplateFailure.of("the value grows beyond %d elements", Text.MOST);
    }
    if (many instanceof Text text) {
      var builder = new Text.Builder(work);
      for (int i = 0; i < times.intValue(); i++) {
        builder.append(text);
      }
      return text.isSafe() ? builder.text().safe() : builder.text();
    }
    work.spend(Work.ELEMENT * times.longValue() * length);
    var all = new ArrayList<Object>(times.intValue() * length);
    for (int i = 0; i < times.intValue(); i++) {
      all.addAll(many instanceof Tuple tuple ? tuple.items : iterate(many));
    }
    return many instanceof Tuple ? new Tuple(all) : all;
  }

  /// `of[index]`, or null where Python raises what Jinja takes for undefined.
  @Nullable Object element(Object of, Object index) {
    if (of instanceof Dict dict) {
      return index instanceof List || index instanceof Dict ? null : find(dict, index);
    }
    BigInteger whole = Numbers.asWhole(index);
    Integer length = of instanceof Undefined || of instanceof View ? null : length(of);
    if (whole == null || length == null || whole.bitLength() > 31) {
      return null;
    }
    int at = whole.intValue() < 0 ? whole.intValue() + length : whole.intValue();
    if (at < 0 || at >= length) {
      return null;
    }
    return switch (of) {
      case Text text -> {
        work.spend(text.string().length());
        int from = text.string().offsetByCodePoints(0, at);
        yield text.cut(from, text.string().offsetByCodePoints(from, 1));
      }
      case List<?> list -> list.get(at);
      case Tuple tuple -> tuple.items.get(at);
      case Range range -> whole(range.get(at));
      default -> null;
    };
  }

  /// `of[from:to:step]`, each bound [None] if it is not given.
  Object slice(Object of, Object from, Object to, Object step) {
    refuseUndefined(of);
    Integer length = length(of);
    boolean whole =
        List.of(from, to, step).stream()
            .allMatch(bound -> bound == None.NONE || Numbers.asWhole(bound) != null);
    if (length == null || of instanceof Dict || of instanceof View || of instanceof Loop) {
      throw TemplateFailure.of("'%s' object cannot be sliced", typeName(of));
    }
    if (!whole) {
      throw new TemplateFailure("slice indices must be integers or None");
    }
    long by = step == None.NONE ? 1 : clamped(step);
    if (by == 0) {
      throw new TemplateFailure("slice step cannot be zero");
    }
    long least = by < 0 ? -1 : 0;
    long most = by < 0 ? length - 1 : length;
    long start = from == None.NONE ? (by < 0 ? most : least) : bound(from, length, least, most);
    long stop = to == None.NONE ? (by < 0 ? least : most) : bound(to, length, least, most);
    long span = by < 0 ? start - stop : stop - start;
    int count = span <= 0 ? 0 : (int) ((span - 1) / Math.abs(by) + 1);
    work.spend((long) Work.ELEMENT * count);
    return switch (of) {
      case Text text -> slice(text, (int) start, by, count);
      case Range range ->
          new Range(
              range.start + start * range.step,
              range.start + stop * range.step,
              range.step * by,
              count);
      case Tuple tuple -> new Tuple(slice(tuple.items, start, by, count));
      default -> slice(iterate(of), start, by, count);
    };
  }

  private static long clamped(Object whole) {
    BigInteger limit = BigInteger.valueOf(Integer.MAX_VALUE);
    BigInteger number = Numbers.asWhole(whole);
    return number == null ? 0 : number.max(limit.negate()).min(limit).longValue();
  }

  private static long bound(Object bound, int length, long least, long most) {
    long at = clamped(bound);
    return Math.clamp(at < 0 ? at + length : at, least, most);
  }

  private static List<Object> slice(List<Object> items, long start, long step, int count) {
    var slice = new ArrayList<Object>(count);
    for (int i = 0; i < count; i++) {
      slice.add(items.get((int) (start + i * step)));
    }
    return slice;
  }

  private Text slice(Text text, int start, long step, int count) {
    String string = text.string();
    work.spend(string.length());
    if (step == 1) {
      int from = string.offsetByCodePoints(0, start);
      return text.cut(from, string.offsetByCodePoints(from, count));
    }
    var builder = new Text.Builder(work);
    int at = string.offsetByCodePoints(0, count == 0 ? 0 : start);
    for (int i = 0; i < count; i++) {
      builder.append(text, at, string.offsetByCodePoints(at, 1));
      if (i + 1 < count) {
        at = string.offsetByCodePoints(at, (int) step);
      }
    }
    return text.isSafe() ? builder.text().safe() : builder.text();
  }

  /// `range(…)`
  static Range range(Arguments arguments) {
    Object[] given = arguments.bind("range", 1, "start", "stop", "step");
    long[] numbers = new long[3];
    for (int i = 0; i < 3; i++) {
      if (given[i] == Arguments.ABSENT) {
        continue;
      }
      refuseUndefined(given[i]);
      BigInteger number = Numbers.asWhole(given[i]);
      if (number == null || number.bitLength() > 31) {
        throw TemplateFailure.of("range takes whole numbers, not '%s'", typeName(given[i]));
      }
      numbers[i] = number.longValue();
    }
    boolean single = given[1] == Arguments.ABSENT;
    long start = single ? 0 : numbers[0];
    long stop = single ? numbers[0] : numbers[1];
    long step = given[2] == Arguments.ABSENT ? 1 : numbers[2];
    if (step == 0) {
      throw new TemplateFailure("range() arg 3 must not be zero");
    }
    long span = step < 0 ? start - stop : stop - start;
    long count = span <= 0 ? 0 : (span - 1) / Math.abs(step) + 1;
    if (count > LONGEST_RANGE) {
      throw TemplateFailure.of("a range has %d numbers, more than %d", count, LONGEST_RANGE);
    }
    return new Range(start, stop, step, (int) count);
  }

  /// What is printed: Python's `str`.
  Text text(Object value) {
    if (value instanceof Text text) {
      return text;
    }
    if (value instanceof Undefined) {
      return Text.EMPTY;
    }
    return repr(value);
  }

  Text repr(Object value) {
    var builder = new Text.Builder(work);
    repr(value, builder);
    return builder.text();
  }

  private void repr(Object value, Text.Builder builder) {
    work.enter();
    switch (value) {
      case None _ -> builder.append("None");
      case Boolean truth -> builder.append(truth ? "True" : "False");
      case BigInteger number -> builder.append(number.toString());
      case Double number -> builder.append(Numbers.print(number));
      case Undefined _ -> builder.append("Undefined");
      case Text text -> {
        builder.append(text.isSafe() ? "Markup(" : "");
        Python.quote(text, builder);
        builder.append(text.isSafe() ? ")" : "");
      }
      case List<?> list -> {
        builder.append("[");
        listed(plain(list), builder);
        builder.append("]");
      }
      case Tuple tuple -> {
        builder.append("(");
        listed(tuple.items, builder);
        builder.append(tuple.items.size() == 1 ? ",)" : ")");
      }
      case View view -> {
        builder.append(view.name + "([");
        listed(view.items, builder);
        builder.append("])");
      }
      case Dict dict -> {
        builder.append("{");
        pairs(dict, builder);
        builder.append("}");
      }
      case Range range ->
          builder.append(
              range.step == 1
                  ? "range(%d, %d)".formatted(range.start, range.stop)
                  : "range(%d, %d, %d)".formatted(range.start, range.stop, range.step));
      case Namespace space -> {
        var dict = new Dict();
        space.members.forEach((name, member) -> dict.put(Text.template(name), member));
        builder.append("<Namespace {");
        pairs(dict, builder);
        builder.append("}>");
      }
      default ->
          throw TemplateFailure.of(
              "a %s is printed, which has no text; take its elements with |list or call it",
              typeName(value));
    }
    work.leave();
  }

  private void listed(List<Object> items, Text.Builder builder) {
    String separator = "";
    for (Object item : items) {
      builder.append(separator);
      repr(item, builder);
      separator = ", ";
    }
  }

  private void pairs(Dict dict, Text.Builder builder) {
    int start = builder.length();
    dict.each(
        (key, value) -> {
          builder.append(builder.length() > start ? ", " : "");
          repr(key, builder);
          builder.append(": ");
          repr(value, builder);
        });
  }
}
