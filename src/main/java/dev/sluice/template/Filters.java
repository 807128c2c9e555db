package dev.sluice.template;

import static dev.sluice.template.Numbers.whole;

import dev.sluice.template.Values.Dict;
import dev.sluice.template.Values.Once;
import dev.sluice.template.Values.Undefined;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// What stands behind `|`.
final class Filters {
  interface Filter {
    Object of(Members members, Object value, Arguments arguments);
  }

  /// A filter of a text; other values are printed first.
  private interface Change {
    Object of(Values values, Text text);
  }

  private interface Condition {
    boolean of(Object value);
  }

  private interface Getter {
    Object of(Object value);
  }

  static final Map<String, Filter> ALL = all();

  private Filters() {}

  private static Map<String, Filter> all() {
    var all = new HashMap<String, Filter>();
    change(all, "upper", Strings::upper);
    change(all, "lower", Strings::lower);
    change(all, "capitalize", Strings::capitalize);
    change(all, "title", Strings::titleOfWords);
    change(all, "string", (_, text) -> text);
    change(all, "safe", (_, text) -> text.safe());
    all.put("trim", Filters::trim);
    all.put("replace", Filters::replace);
    all.put("indent", Filters::indent);
    all.put("join", Filters::join);
    all.put("tojson", (members, value, given) -> Json.of(members.values(), value, given));
    all.put("length", Filters::length);
    all.put("count", Filters::length);
    all.put("default", Filters::otherwise);
    all.put("d", Filters::otherwise);
    all.put("first", (members, value, given) -> end(members, value, given, true));
    all.put("last", (members, value, given) -> end(members, value, given, false));
    all.put("list", (members, value, given) -> list(members, value, given));
    all.put("items", Filters::items);
    all.put("map", Filters::map);
    all.put("select", (members, value, given) -> select(members, value, given, false, true));
    all.put("reject", (members, value, given) -> select(members, value, given, false, false));
    all.put("selectattr", (members, value, given) -> select(members, value, given, true, true));
    all.put("rejectattr", (members, value, given) -> select(members, value, given, true, false));
    all.put("sort", Filters::sort);
    all.put("dictsort", Filters::dictsort);
    all.put("unique", Filters::unique);
    all.put("reverse", Filters::reverse);
    all.put("min", (members, value, given) -> extreme(members, value, given, -1));
    all.put("max", (members, value, given) -> extreme(members, value, given, 1));
    all.put("int", Filters::integer);
    all.put("float", Filters::fraction);
    all.put("abs", Filters::absolute);
    return Map.copyOf(all);
  }

  private static void change(Map<String, Filter> all, String name, Change change) {
    all.put(
        name,
        (members, value, given) -> {
          given.bind(name, 0);
          return change.of(members.values(), members.values().text(value));
        });
  }

  private static boolean isGiven(Object argument) {
    return argument != Arguments.ABSENT;
  }

  private static boolean isTrue(Object argument) {
    return isGiven(argument) && Values.isTrue(argument);
  }

  private static Object trim(Members members, Object value, Arguments given) {
    Values values = members.values();
    return Strings.strip(values, values.text(value), Strings.chars("trim", given), true, true);
  }

  private static Object replace(Members members, Object value, Arguments given) {
    Object[] bound = given.bind("replace", 2, "old", "new", "count");
    Values values = members.values();
    BigInteger count =
        isGiven(bound[2]) && bound[2] != None.NONE ? Numbers.asWhole(bound[2]) : whole(-1);
    if (count == null) {
      throw TemplateFailure.of("replace takes a whole number, not %s", Values.typeName(bound[2]));
    }
    return Strings.replace(
        values,
        values.text(value),
        values.text(bound[0]),
        values.text(bound[1]),
        count.signum() < 0 ? -1 : count.bitLength() > 31 ? Integer.MAX_VALUE : count.intValue());
  }

  private static Object indent(Members members, Object value, Arguments given) {
    Object[] bound = given.bind("indent", 0, "width", "first", "blank");
    Values values = members.values();
    Object width = isGiven(bound[0]) ? bound[0] : whole(4);
    var by =
        width instanceof Text text ? text : (Text) values.binary("*", Text.template(" "), width);
    if (!(value instanceof Text text)) {
      Values.refuseUndefined(value);
      throw TemplateFailure.of("indent takes a string, not '%s'", Values.typeName(value));
    }
    List<Object> lines =
        Strings.lines(values, (Text) values.binary("+", text, Text.template("\n")));
    var builder = new Text.Builder(values.work());
    for (int i = 0; i < lines.size(); i++) {
      var line = (Text) lines.get(i);
      builder.append(i > 0 ? "\n" : "");
      boolean indented = i == 0 ? isTrue(bound[1]) : isTrue(bound[2]) || !line.string().isEmpty();
      if (indented) {
        builder.append(by);
      }
      builder.append(line);
    }
    return builder.text();
  }

  private static Object join(Members members, Object value, Arguments given) {
    Object[] bound = given.bind("join", 0, "d", "attribute");
    Values values = members.values();
    Text separator = isGiven(bound[0]) ? values.text(bound[0]) : Text.EMPTY;
    Getter getter = getter(members, bound[1], false, null);
    var parts = new ArrayList<Object>();
    for (Object part : values.iterate(value)) {
      parts.add(getter.of(part));
    }
    return Strings.join(values, separator, parts);
  }

  private static Object length(Members members, Object value, Arguments given) {
    given.bind("length", 0);
    if (value instanceof Text text) {
      members.values().work().spend(text.string().length());
    }
    Integer length = Values.length(value);
    if (length == null) {
      throw TemplateFailure.of("object of type '%s' has no len()", Values.typeName(value));
    }
    return whole(length);
  }

  private static Object otherwise(Members members, Object value, Arguments given) {
    Object[] bound = given.bind("default", 0, "default_value", "boolean");
    boolean missing = value instanceof Undefined || (isTrue(bound[1]) && !Values.isTrue(value));
    return !missing ? value : isGiven(bound[0]) ? bound[0] : Text.EMPTY;
  }

  private static Object end(Members members, Object value, Arguments given, boolean first) {
    given.bind(first ? "first" : "last", 0);
    if (first && value instanceof Once once) {
      return once.items().hasNext() ? once.items().next() : noItem("first");
    }
    if (value instanceof Once) {
      throw new TemplateFailure("'generator' object is not reversible; take |list before |last");
    }
    List<Object> items = members.values().iterate(value);
    return items.isEmpty()
        ? noItem(first ? "first" : "last")
        : first ? items.getFirst() : items.getLast();
  }

  private static Undefined noItem(String which) {
    return new Undefined("No %s item, sequence was empty.".formatted(which));
  }

  private static Object list(Members members, Object value, Arguments given) {
    given.bind("list", 0);
    return new ArrayList<>(members.values().iterate(value));
  }

  private static Object items(Members members, Object value, Arguments given) {
    given.bind("items", 0);
    return switch (value) {
      case Undefined _ -> once(List.of());
      case Dict dict -> {
        members.values().work().spend((long) Work.OBJECT * dict.size());
        yield once(dict.items());
      }
      default -> throw new TemplateFailure("Can only get item pairs from a mapping.");
    };
  }

  private static Once once(List<Object> items) {
    return new Once(items.iterator());
  }

  /// What `attribute` names: a path such as `function.name` or `0`, or nothing for the value.
  ///
  /// @param standIn for what is not there
  private static Getter getter(
      Members members, Object attribute, boolean ignoresCase, @Nullable Object standIn) {
    var path = new ArrayList<Object>();
    if (attribute instanceof Text text) {
      members.values().work().spend((long) Work.OBJECT * text.string().length());
      for (String part : text.string().split("\\.", -1)) {
        boolean number =
            !part.isEmpty()
                && part.length() < 10
                && part.chars().allMatch(c -> c >= '0' && c <= '9');
        path.add(number ? whole(Integer.parseInt(part)) : Text.template(part));
      }
    } else if (isGiven(attribute) && attribute != None.NONE) {
      path.add(attribute);
    }
    return value -> {
      Object found = value;
      for (Object part : path) {
        members.values().work().step();
        found = members.item(found, part);
        if (standIn != null && standIn != None.NONE && found instanceof Undefined) {
          found = standIn;
        }
      }
      return ignoresCase && found instanceof Text text
          ? Strings.lower(members.values(), text)
          : found;
    };
  }

  /// What counts as false has no elements, whatever it is.
  private static List<Object> someOf(Members members, Object value) {
    return Values.isTrue(value) ? members.values().iterate(value) : List.of();
  }

  private static Object map(Members members, Object value, Arguments given) {
    Getter change;
    if (given.positional().isEmpty() && given.named().containsKey("attribute")) {
      Object[] bound = given.bind("map", 0, "attribute", "default");
      change = getter(members, bound[0], false, isGiven(bound[1]) ? bound[1] : null);
    } else {
      if (given.positional().isEmpty()) {
        throw new TemplateFailure("map requires a filter argument");
      }
      Filter filter = named(ALL, "filter", name(members, given.positional().getFirst()));
      Arguments rest = given.after(1);
      change = item -> filter.of(members, item, rest);
    }
    var changed = new ArrayList<Object>();
    for (Object item : someOf(members, value)) {
      members.values().work().step();
      changed.add(change.of(item));
    }
    return once(changed);
  }

  /// A filter or test, which is looked for when it is reached, as in Jinja: a branch that is not
  /// taken may name any.
  static <T> T named(Map<String, T> all, String kind, String name) {
    T found = all.get(name);
    if (found == null) {
      throw TemplateFailure.outside("the %s '%s'".formatted(kind, name));
    }
    return found;
  }

  private static String name(Members members, Object name) {
    return members.values().text(name).string();
  }

  private static Object select(
      Members members, Object value, Arguments given, boolean attribute, boolean wanted) {
    Getter getter = item -> item;
    Arguments rest = given;
    if (attribute) {
      if (given.positional().isEmpty()) {
        throw new TemplateFailure("Missing parameter for attribute name");
      }
      getter = getter(members, given.positional().getFirst(), false, null);
      rest = given.after(1);
    }
    Condition condition = Values::isTrue;
    if (!rest.positional().isEmpty()) {
      Tests.Test test = named(Tests.ALL, "test", name(members, rest.positional().getFirst()));
      Arguments arguments = rest.after(1);
      condition = item -> test.of(members.values(), item, arguments);
    }
    var selected = new ArrayList<Object>();
    for (Object item : someOf(members, value)) {
      members.values().work().step();
      if (condition.of(getter.of(item)) == wanted) {
        selected.add(item);
      }
    }
    return once(selected);
  }

  /// Python's stable order, also where it is turned round.
  static List<Object> sorted(List<Object> items, Comparator<Object> order, boolean reversed) {
    var sorted = new ArrayList<>(items);
    try {
      sorted.sort(reversed ? order.reversed() : order);
    } catch (IllegalArgumentException e) {
      throw new TemplateFailure("the values have no order"); // such as nan
    }
    return sorted;
  }

  /// What is sorted, with what it is sorted by.
  private record Ranked(Object item, Object key) {}

  private static List<Object> sorted(
      Values values, List<Object> items, Getter key, boolean reversed) {
    var ranked = new ArrayList<Object>();
    for (Object item : items) {
      ranked.add(new Ranked(item, key.of(item)));
    }
    Comparator<Object> order =
        (a, b) -> {
          values.work().step();
          Object x = ((Ranked) a).key;
          Object y = ((Ranked) b).key;
          return values.equal(x, y) ? 0 : values.order("<", x, y);
        };
    var sorted = new ArrayList<Object>();
    for (Object item : sorted(ranked, order, reversed)) {
      sorted.add(((Ranked) item).item);
    }
    return sorted;
  }

  private static Object sort(Members members, Object value, Arguments given) {
    Object[] bound = given.bind("sort", 0, "reverse", "case_sensitive", "attribute");
    boolean ignoresCase = !isTrue(bound[1]);
    var getters = new ArrayList<Getter>();
    if (bound[2] instanceof Text several) {
      for (String one : several.string().split(",", -1)) {
        getters.add(getter(members, Text.template(one), ignoresCase, null));
      }
    } else {
      getters.add(getter(members, bound[2], ignoresCase, null));
    }
    Values values = members.values();
    return sorted(
        values,
        values.iterate(value),
        item -> new ArrayList<>(getters.stream().map(getter -> getter.of(item)).toList()),
        isTrue(bound[0]));
  }

  private static Object dictsort(Members members, Object value, Arguments given) {
    Object[] bound = given.bind("dictsort", 0, "case_sensitive", "by", "reverse");
    String by = isGiven(bound[1]) ? members.values().text(bound[1]).string() : "key";
    if (!by.equals("key") && !by.equals("value")) {
      throw new TemplateFailure("You can only sort by either \"key\" or \"value\"");
    }
    if (!(value instanceof Dict dict)) {
      Values.refuseUndefined(value);
      throw TemplateFailure.of("dictsort takes a mapping, not '%s'", Values.typeName(value));
    }
    Object place = whole(by.equals("key") ? 0 : 1);
    Getter getter = getter(members, place, !isTrue(bound[0]), null);
    return sorted(members.values(), dict.items(), getter, isTrue(bound[2]));
  }

  private static Object unique(Members members, Object value, Arguments given) {
    Object[] bound = given.bind("unique", 0, "case_sensitive", "attribute");
    Getter getter = getter(members, bound[1], !isTrue(bound[0]), null);
    var seen = new HashSet<Object>();
    var unique = new ArrayList<Object>();
    for (Object item : members.values().iterate(value)) {
      Object key = getter.of(item);
      members
          .values()
          .work()
          .spend(Work.OBJECT + (key instanceof Text text ? text.string().length() : 0));
      if (seen.add(Values.key(key))) {
        unique.add(item);
      }
    }
    return once(unique);
  }

  private static Object reverse(Members members, Object value, Arguments given) {
    given.bind("reverse", 0);
    if (value instanceof Text) {
      return members.values().slice(value, None.NONE, None.NONE, whole(-1));
    }
    return once(new ArrayList<>(members.values().iterate(value).reversed()));
  }

  private static Object extreme(Members members, Object value, Arguments given, int sign) {
    Object[] bound = given.bind(sign < 0 ? "min" : "max", 0, "case_sensitive", "attribute");
    Getter getter = getter(members, bound[1], !isTrue(bound[0]), null);
    Values values = members.values();
    @Nullable Object best = null;
    for (Object item : values.iterate(value)) {
      String operator = sign < 0 ? "<" : ">";
      if (best == null || Tests.compare(values, operator, getter.of(item), getter.of(best))) {
        best = item;
      }
    }
    return best != null ? best : new Undefined("No aggregated item, sequence was empty.");
  }

  private static Object integer(Members members, Object value, Arguments given) {
    Object[] bound = given.bind("int", 0, "default", "base");
    Values.refuseUndefined(value);
    @Nullable BigInteger whole = Numbers.asWhole(value);
    if (value instanceof Text text) {
      BigInteger base = isGiven(bound[1]) ? Numbers.asWhole(bound[1]) : BigInteger.TEN;
      members.values().work().spend(text.string().length());
      whole =
          base == null || base.bitLength() > 8
              ? null
              : Numbers.parseWhole(text.string(), base.intValue());
    }
    if (whole == null) {
      @Nullable Double fraction = fraction(members.values(), value);
      whole = fraction == null ? null : Numbers.truncated(fraction);
    }
    return whole != null ? whole : isGiven(bound[0]) ? bound[0] : BigInteger.ZERO;
  }

  private static Object fraction(Members members, Object value, Arguments given) {
    Object[] bound = given.bind("float", 0, "default");
    Values.refuseUndefined(value);
    @Nullable Double fraction = fraction(members.values(), value);
    return fraction != null ? fraction : isGiven(bound[0]) ? bound[0] : 0.0;
  }

  private static @Nullable Double fraction(Values values, Object value) {
    if (value instanceof Text text) {
      values.work().spend(text.string().length());
      return Numbers.parseDouble(text.string());
    }
    return Numbers.isNumber(value) ? Numbers.asDouble(value) : null;
  }

  private static Object absolute(Members members, Object value, Arguments given) {
    given.bind("abs", 0);
    Values.refuseUndefined(value);
    if (!Numbers.isNumber(value)) {
      throw TemplateFailure.of("bad operand type for abs(): '%s'", Values.typeName(value));
    }
    return value instanceof Double number
        ? (Object) Math.abs(number)
        : Numbers.sign(Numbers.compare(value, BigInteger.ZERO) < 0 ? "-" : "+", value);
  }

  /// The pairs of a mapping, or a sequence of pairs, as a mapping.
  static Dict dict(Values values, Arguments given) {
    var dict = new Dict();
    if (given.positional().size() > 1) {
      throw TemplateFailure.of("dict takes one argument, not %d", given.positional().size());
    }
    if (!given.positional().isEmpty()) {
      Object from = given.positional().getFirst();
      Values.refuseUndefined(from);
      if (from instanceof Dict other) {
        other.each((key, value) -> values.put(dict, key, value));
      } else {
        for (Object pair : values.iterate(from)) {
          List<Object> two = values.iterate(pair);
          if (two.size() != 2) {
            throw TemplateFailure.of("dict takes pairs, not %d values", two.size());
          }
          values.put(dict, two.get(0), two.get(1));
        }
      }
    }
    given.named().forEach((name, value) -> values.put(dict, Text.template(name), value));
    return dict;
  }
}
