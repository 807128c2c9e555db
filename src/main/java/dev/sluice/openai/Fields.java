package dev.sluice.openai;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/// The members of a JSON object of a request. Each is asked for by its kind, and one of another
/// kind is refused with its place; null counts as absent. In the end [#requireAllKnown] refuses
/// those that nobody has asked for, so that nothing is passed over that a client has set.
final class Fields {
  private static final int SHOWN = 60;

  private final String place;
  private final ObjectNode object;
  private final Set<String> asked = new LinkedHashSet<>();

  /// Fields without effect that were given, of the whole request.
  private final Set<String> ignored;

  private Fields(String place, ObjectNode object, Set<String> ignored) {
    this.place = place;
    this.object = object;
    this.ignored = ignored;
  }

  /// Those of a request.
  static Fields of(JsonNode request) {
    if (request instanceof ObjectNode object) {
      return new Fields("", object, new TreeSet<>());
    }
    throw ApiException.invalid(null, "the body must be a JSON object");
  }

  /// The place of a member, as errors name it.
  String place(String name) {
    return place.isEmpty() ? name : place + "." + name;
  }

  /// The place of this object.
  String place() {
    return place;
  }

  /// A member as it is; null where there is none.
  @Nullable JsonNode node(String name) {
    asked.add(name);
    JsonNode node = object.get(name);
    return node == null || node.isNull() ? null : node;
  }

  boolean has(String name) {
    return node(name) != null;
  }

  @Nullable String text(String name) {
    JsonNode node = node(name);
    if (node == null) {
      return null;
    }
    if (!node.isString()) {
      throw wrong(place(name), node, "a string");
    }
    return node.stringValue();
  }

  String text(String name, String otherwise) {
    String text = text(name);
    return text == null ? otherwise : text;
  }

  String requiredText(String name) {
    String text = text(name);
    if (text == null) {
      throw missing(name, "a string");
    }
    return text;
  }

  boolean flag(String name, boolean otherwise) {
    JsonNode node = node(name);
    if (node == null) {
      return otherwise;
    }
    if (!node.isBoolean()) {
      throw wrong(place(name), node, "true or false");
    }
    return node.booleanValue();
  }

  double number(String name, double otherwise) {
    JsonNode node = node(name);
    if (node == null) {
      return otherwise;
    }
    if (!node.isNumber() || !Double.isFinite(node.doubleValue())) {
      throw wrong(place(name), node, "a number");
    }
    return node.doubleValue();
  }

  /// A whole number; one of the form `1.0` counts as one.
  long whole(String name, long otherwise, long least, long most) {
    JsonNode node = node(name);
    return node == null ? otherwise : whole(place(name), node, least, most);
  }

  static long whole(String place, JsonNode node, long least, long most) {
    double value = node.isNumber() ? node.doubleValue() : Double.NaN;
    boolean isWhole =
        node.isIntegralNumber()
            ? node.canConvertToLong()
            : value == Math.rint(value) && Math.abs(value) < 1L << 53;
    long number = !isWhole ? 0 : node.isIntegralNumber() ? node.longValue() : (long) value;
    if (!isWhole || number < least || number > most) {
      throw wrong(place, node, "a whole number from %d to %d".formatted(least, most));
    }
    return number;
  }

  @Nullable Fields object(String name) {
    JsonNode node = node(name);
    if (node == null) {
      return null;
    }
    return object(place(name), node);
  }

  /// An item of a list of objects.
  Fields object(String at, JsonNode node) {
    if (node instanceof ObjectNode members) {
      return new Fields(at, members, ignored);
    }
    throw wrong(at, node, "an object");
  }

  Fields requiredObject(String name) {
    Fields fields = object(name);
    if (fields == null) {
      throw missing(name, "an object");
    }
    return fields;
  }

  /// The items of a list; none where there is no list.
  ///
  /// @param most items
  List<JsonNode> list(String name, int most) {
    JsonNode node = node(name);
    if (node == null) {
      return List.of();
    }
    if (!node.isArray()) {
      throw wrong(place(name), node, "a list");
    }
    if (node.size() > most) {
      throw ApiException.invalid(
          place(name), "%s has %d items, more than %d".formatted(place(name), node.size(), most));
    }
    var items = new ArrayList<JsonNode>();
    node.forEach(items::add);
    return items;
  }

  /// The members by name, as they are.
  ObjectNode members() {
    return object;
  }

  /// Takes fields that mean nothing here, which is told with the answer.
  void ignore(String... names) {
    for (String name : names) {
      if (has(name)) {
        ignored.add(place(name));
      }
    }
  }

  /// Says with the answer what else of the request is not followed.
  void tell(String what) {
    ignored.add(what);
  }

  /// The fields that were given and mean nothing here.
  Set<String> ignored() {
    return ignored;
  }

  /// Refuses what is not known, as it could matter.
  void requireAllKnown() {
    for (String name : object.propertyNames()) {
      if (!asked.contains(name) && !object.get(name).isNull()) {
        String at = place(Printable.brief(name, SHOWN));
        throw ApiException.invalid(
            at, "unknown_parameter", "%s is not known to this server; leave it out".formatted(at));
      }
    }
  }

  /// A value of another kind.
  static ApiException wrong(String at, Object found, String wanted) {
    return ApiException.invalid(
        at, "%s must be %s, not %s".formatted(at, wanted, Printable.brief(found, SHOWN)));
  }

  private ApiException missing(String name, String kind) {
    return ApiException.invalid(
        place(name), "%s is missing; it must be %s".formatted(place(name), kind));
  }

  /// Blames what other parts of the program refuse on a field.
  static <T> T at(String place, Supplier<T> work) {
    try {
      return work.get();
    } catch (InvalidInputException e) {
      throw ApiException.invalid(place, String.valueOf(e.getMessage()));
    }
  }
}
