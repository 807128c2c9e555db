package dev.sluice.template;

import dev.sluice.template.Values.Dict;
import dev.sluice.template.Values.Function;
import dev.sluice.template.Values.Range;
import dev.sluice.template.Values.Tuple;
import dev.sluice.template.Values.Undefined;
import java.math.BigInteger;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/// What stands behind `is`.
final class Tests {
  interface Test {
    boolean of(Values values, Object value, Arguments arguments);
  }

  private interface Property {
    boolean of(Object value);
  }

  private interface Relation {
    boolean of(Values values, Object value, Object other);
  }

  static final Map<String, Test> ALL = all();

  private Tests() {}

  private static Map<String, Test> all() {
    var all = new HashMap<String, Test>();
    property(all, "defined", value -> !(value instanceof Undefined));
    property(all, "undefined", value -> value instanceof Undefined);
    property(all, "none", value -> value == None.NONE);
    property(all, "boolean", value -> value instanceof Boolean);
    property(all, "true", value -> value instanceof Boolean truth && truth);
    property(all, "false", value -> value instanceof Boolean truth && !truth);
    property(all, "integer", value -> value instanceof BigInteger);
    property(all, "float", value -> value instanceof Double);
    property(all, "number", Numbers::isNumber);
    property(all, "string", value -> value instanceof Text);
    property(all, "mapping", value -> value instanceof Dict);
    property(
        all,
        "callable",
        value -> value instanceof Function || value instanceof Loop || value instanceof Undefined);
    property(all, "sequence", Tests::isSequence);
    property(all, "iterable", value -> isSequence(value) || isWalked(value));
    property(all, "odd", value -> isRest(value, 1));
    property(all, "even", value -> isRest(value, 0));
    text(all, "lower", string -> string.toLowerCase(Locale.ROOT));
    text(all, "upper", string -> string.toUpperCase(Locale.ROOT));
    relation(all, List.of("eq", "equalto", "=="), Values::equal);
    relation(all, List.of("ne", "!="), (values, a, b) -> !values.equal(a, b));
    relation(all, List.of("lt", "lessthan", "<"), (values, a, b) -> compare(values, "<", a, b));
    relation(all, List.of("le", "<="), (values, a, b) -> compare(values, "<=", a, b));
    relation(all, List.of("gt", "greaterthan", ">"), (values, a, b) -> compare(values, ">", a, b));
    relation(all, List.of("ge", ">="), (values, a, b) -> compare(values, ">=", a, b));
    relation(all, List.of("in"), (values, a, b) -> values.contains(b, a));
    relation(all, List.of("sameas"), (_, a, b) -> isSame(a, b));
    relation(all, List.of("divisibleby"), (values, a, b) -> isZero(values.binary("%", a, b)));
    return Map.copyOf(all);
  }

  private static void property(Map<String, Test> all, String name, Property property) {
    all.put(
        name,
        (_, value, arguments) -> {
          arguments.bind(name, 0);
          return property.of(value);
        });
  }

  private static void relation(Map<String, Test> all, List<String> names, Relation relation) {
    for (String name : names) {
      all.put(
          name,
          (values, value, arguments) ->
              relation.of(values, value, arguments.bind(name, 1, "other")[0]));
    }
  }

  /// Whether all letters have one case, and there is one.
  private static void text(
      Map<String, Test> all, String name, java.util.function.UnaryOperator<String> change) {
    all.put(
        name,
        (values, value, arguments) -> {
          arguments.bind(name, 0);
          String string = values.text(value).string();
          values.work().spend(string.length());
          return string.equals(change.apply(string))
              && string
                  .codePoints()
                  .anyMatch(c -> Character.isUpperCase(c) || Character.isLowerCase(c));
        });
  }

  private static boolean isSequence(Object value) {
    return switch (value) {
      case Text _, List<?> _, Tuple _, Dict _, Range _, Undefined _ -> true;
      default -> false;
    };
  }

  private static boolean isWalked(Object value) {
    return value instanceof Values.View || value instanceof Values.Once || value instanceof Loop;
  }

  private static boolean isRest(Object value, int rest) {
    Values.refuseUndefined(value);
    if (!Numbers.isNumber(value)) {
      throw TemplateFailure.of("a %s is neither odd nor even", Values.typeName(value));
    }
    return Numbers.compare(Numbers.binary("%", value, Numbers.whole(2)), Numbers.whole(rest)) == 0;
  }

  private static boolean isZero(Object number) {
    return Numbers.compare(number, BigInteger.ZERO) == 0;
  }

  private static boolean isSame(Object a, Object b) {
    boolean single =
        a instanceof Boolean || a == None.NONE || b instanceof Boolean || b == None.NONE;
    if (!single) {
      throw TemplateFailure.outside("the test 'sameas' of other values than true, false and none");
    }
    return a.equals(b);
  }

  static boolean compare(Values values, String operator, Object a, Object b) {
    boolean equal = values.equal(a, b);
    switch (operator) {
      case "==" -> {
        return equal;
      }
      case "!=" -> {
        return !equal;
      }
      case "in" -> {
        return values.contains(b, a);
      }
      case "not in" -> {
        return !values.contains(b, a);
      }
      default -> {}
    }
    int order = values.order(operator, a, b);
    if (Numbers.isNan(a) || Numbers.isNan(b)) {
      return false;
    }
    return switch (operator) {
      case "<" -> order < 0;
      case "<=" -> order <= 0;
      case ">" -> order > 0;
      default -> order >= 0;
    };
  }
}
