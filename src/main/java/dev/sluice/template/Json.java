package dev.sluice.template;

import dev.sluice.template.Values.Dict;
import dev.sluice.template.Values.Tuple;
import java.math.BigInteger;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// `tojson` as `transformers` defines it, which is Python's `json.dumps` and not Jinja's filter:
/// nothing is escaped for HTML, and keys keep their order. Names and strings keep their origin.
final class Json {
  private final Values values;
  private final Text.Builder builder;
  private final boolean ascii;
  private final boolean sorted;
  private final @Nullable Text indent;
  private Text comma = Text.template(", ");
  private Text colon = Text.template(": ");
  private int depth;

  private Json(Values values, Arguments arguments) {
    this.values = values;
    builder = new Text.Builder(values.work());
    Object[] given =
        arguments.bind("tojson", 0, "ensure_ascii", "indent", "separators", "sort_keys");
    ascii = given[0] != Arguments.ABSENT && Values.isTrue(given[0]);
    sorted = given[3] != Arguments.ABSENT && Values.isTrue(given[3]);
    indent = indent(given[1]);
    if (indent != null) {
      comma = Text.template(",");
    }
    if (given[2] != Arguments.ABSENT && given[2] != None.NONE) {
      List<Object> pair = values.iterate(given[2]);
      if (pair.size() != 2
          || !(pair.get(0) instanceof Text a)
          || !(pair.get(1) instanceof Text b)) {
        throw new TemplateFailure("the separators of tojson are not two strings");
      }
      comma = a;
      colon = b;
    }
  }

  static Text of(Values values, Object value, Arguments arguments) {
    var json = new Json(values, arguments);
    json.write(value);
    return json.builder.text();
  }

  private @Nullable Text indent(Object given) {
    if (given == Arguments.ABSENT || given == None.NONE) {
      return null;
    }
    BigInteger width = Numbers.asWhole(given);
    if (width != null) {
      return (Text) values.binary("*", Text.template(" "), width);
    }
    if (given instanceof Text text) {
      return text;
    }
    throw TemplateFailure.of("tojson cannot indent by a %s", Values.typeName(given));
  }

  private void write(Object value) {
    values.work().enter();
    switch (value) {
      case None _ -> builder.append("null");
      case Boolean truth -> builder.append(truth ? "true" : "false");
      case BigInteger number -> builder.append(number.toString());
      case Double number -> builder.append(number(number));
      case Text text -> string(text);
      case List<?> list -> list(Values.plain(list));
      case Tuple tuple -> list(tuple.items());
      case Dict dict -> dict(dict);
      default ->
          throw TemplateFailure.of(
              "Object of type %s is not JSON serializable", Values.typeName(value));
    }
    values.work().leave();
  }

  private static String number(double number) {
    return Double.isFinite(number)
        ? Numbers.print(number)
        : Double.isNaN(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity";
  }

  private void list(List<Object> items) {
    builder.append("[");
    if (!items.isEmpty()) {
      depth++;
      boolean first = true;
      for (Object item : items) {
        separate(first);
        write(item);
        first = false;
      }
      depth--;
      line();
    }
    builder.append("]");
  }

  private void dict(Dict dict) {
    builder.append("{");
    List<Object> keys = dict.keys();
    values.work().spend((long) Work.ELEMENT * keys.size());
    if (sorted) {
      keys = Filters.sorted(keys, (a, b) -> values.order("<", a, b), false);
    }
    if (!keys.isEmpty()) {
      depth++;
      boolean first = true;
      for (Object key : keys) {
        separate(first);
        string(name(key));
        builder.append(colon);
        Object value = dict.get(key);
        write(value == null ? None.NONE : value);
        first = false;
      }
      depth--;
      line();
    }
    builder.append("}");
  }

  private static Text name(Object key) {
    return switch (key) {
      case Text text -> text;
      case None _ -> Text.template("null");
      case Boolean truth -> Text.template(truth ? "true" : "false");
      case BigInteger number -> Text.template(number.toString());
      case Double number -> Text.template(number(number));
      default ->
          throw TemplateFailure.of(
              "keys must be str, int, float, bool or None, not %s", Values.typeName(key));
    };
  }

  private void separate(boolean first) {
    if (!first) {
      builder.append(comma);
    }
    line();
  }

  private void line() {
    if (indent != null) {
      builder.append("\n");
      for (int i = 0; i < depth; i++) {
        builder.append(indent);
      }
    }
  }

  private void string(Text text) {
    builder.append("\"");
    text.runs((from, to, origin) -> builder.append(escaped(text.string(), from, to), origin));
    builder.append("\"");
  }

  private String escaped(String string, int from, int to) {
    var escaped = new StringBuilder();
    for (int i = from; i < to; i++) {
      char c = string.charAt(i);
      switch (c) {
        case '"' -> escaped.append("\\\"");
        case '\\' -> escaped.append("\\\\");
        case '\n' -> escaped.append("\\n");
        case '\r' -> escaped.append("\\r");
        case '\t' -> escaped.append("\\t");
        case '\f' -> escaped.append("\\f");
        case '\b' -> escaped.append("\\b");
        default -> {
          if (c < 0x20 || (ascii && c > 0x7E)) {
            escaped.append("\\u%04x".formatted((int) c));
          } else {
            escaped.append(c);
          }
        }
      }
    }
    return escaped.toString();
  }
}
