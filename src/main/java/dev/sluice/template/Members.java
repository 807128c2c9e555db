package dev.sluice.template;

import static dev.sluice.template.Numbers.whole;

import dev.sluice.template.Values.Dict;
import dev.sluice.template.Values.Function;
import dev.sluice.template.Values.Namespace;
import dev.sluice.template.Values.Tuple;
import dev.sluice.template.Values.Undefined;
import dev.sluice.template.Values.View;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// What `value.name` and `value[key]` are. The first prefers a method of the value's type, the
/// second an element; what is neither is undefined. Nothing else of a value can be reached.
record Members(Values values) {
  /// Methods that change a value, which the sandbox of `transformers` takes for not there.
  private static final Map<String, Set<String>> CHANGING =
      Map.of(
          "dict", Set.of("clear", "pop", "popitem", "setdefault", "update"),
          "list",
              Set.of("append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"));

  /// What Python's types have and is not here.
  private static final Map<String, Set<String>> OTHERS =
      Map.of(
          "str",
          Set.of(
              ("casefold center encode expandtabs format_map isalnum isalpha isascii"
                      + " isdecimal isdigit isidentifier islower isnumeric isprintable isspace"
                      + " istitle isupper ljust maketrans partition rindex rjust rpartition"
                      + " swapcase translate zfill")
                  .split(" ")),
          "dict",
          Set.of("copy", "fromkeys"),
          "list",
          Set.of("copy"),
          "int",
          Set.of(
              ("as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag"
                      + " numerator real to_bytes")
                  .split(" ")),
          "bool",
          Set.of(
              ("as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag"
                      + " numerator real to_bytes")
                  .split(" ")),
          "float",
          Set.of("as_integer_ratio conjugate fromhex hex imag is_integer real".split(" ")),
          "range",
          Set.of("count", "index", "start", "step", "stop"),
          "dict_keys",
          Set.of("isdisjoint", "mapping"),
          "dict_values",
          Set.of("mapping"),
          "dict_items",
          Set.of("isdisjoint", "mapping"));

  Object attribute(Object of, String name) {
    Object attribute = typed(of, name);
    if (attribute == null) {
      attribute = of instanceof Dict dict ? dict.get(name) : null;
    }
    return attribute == null ? values.missing(of, Text.template(name)) : attribute;
  }

  Object item(Object of, Object key) {
    Values.refuseUndefined(of);
    Object item = values.element(of, key);
    if (item == null && key instanceof Text name) {
      item = typed(of, name.string());
    }
    return item == null ? values.missing(of, key) : item;
  }

  /// What the value's type gives by this name, or null.
  private @Nullable Object typed(Object of, String name) {
    Values.refuseUndefined(of);
    String type = Values.typeName(of);
    if ((name.startsWith("__") && name.endsWith("__")) || of instanceof Function) {
      throw TemplateFailure.outside("'%s' of a %s".formatted(name, type));
    }
    if (CHANGING.getOrDefault(type, Set.of()).contains(name)) {
      return new Undefined(
          "access to attribute '%s' of '%s' object is unsafe.".formatted(name, type));
    }
    if (OTHERS.getOrDefault(type, Set.of()).contains(name)) {
      throw TemplateFailure.outside("'%s' of a %s".formatted(name, type));
    }
    return switch (of) {
      case Text text -> {
        Strings.Method method = Strings.METHODS.get(name);
        yield method == null ? null : new Function(name, given -> method.of(values, text, given));
      }
      case Dict dict -> ofDict(dict, name);
      case List<?> list -> ofItems(Values.plain(list), name);
      case Tuple tuple -> ofItems(tuple.items(), name);
      case Namespace space -> space.members().get(name);
      case Loop loop -> loop.member(name);
      default -> null;
    };
  }

  private @Nullable Object ofDict(Dict dict, String name) {
    return switch (name) {
      case "get" ->
          new Function(
              name,
              given -> {
                Object[] bound = given.bind(name, 1, "key", "default");
                Object value = values.find(dict, bound[0]);
                return value != null ? value : bound[1] == Arguments.ABSENT ? None.NONE : bound[1];
              });
      case "keys", "values", "items" ->
          new Function(
              name,
              given -> {
                given.bind(name, 0);
                values.work().spend((long) Work.OBJECT * dict.size());
                return new View(
                    "dict_" + name,
                    switch (name) {
                      case "keys" -> dict.keys();
                      case "values" -> dict.values();
                      default -> dict.items();
                    });
              });
      default -> null;
    };
  }

  private @Nullable Object ofItems(List<Object> items, String name) {
    return switch (name) {
      case "index", "count" ->
          new Function(
              name,
              given -> {
                Object wanted = given.bind(name, 1, "value")[0];
                int count = 0;
                for (int i = 0; i < items.size(); i++) {
                  boolean found = values.equal(items.get(i), wanted);
                  if (found && name.equals("index")) {
                    return whole(i);
                  }
                  count += found ? 1 : 0;
                }
                if (name.equals("index")) {
                  throw new TemplateFailure("the value is not in the list");
                }
                return whole(count);
              });
      default -> null;
    };
  }
}
