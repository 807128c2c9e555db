package dev.sluice.settings;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.RecordComponent;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/// All settings of a record, which are its components that are a [Setting] and those of its
/// components that are records, in order.
///
/// @param <R> the record
public final class Settings<R extends Record> {
  /// Characters of a wrong value that a message repeats.
  private static final int LONGEST_VALUE = 100;

  /// Names that a message gives in place of a wrong one.
  private static final int NEAREST = 8;

  /// A setting as it was declared.
  ///
  /// @param name as files have it
  /// @param heading over it in help; empty for that of the setting before
  /// @param type of its values: `Integer`, `Long`, `Double`, `Boolean` or `String`
  /// @param about bounds and texts
  public record Declared(String name, String heading, Class<?> type, Setting about) {
    /// What holds where nobody says otherwise.
    public Object initial() {
      return parse(about.initial());
    }

    /// The value that a text stands for.
    ///
    /// @throws InvalidInputException if it is of another kind or out of bounds
    Object parse(String text) {
      String shown = "'" + Printable.brief(text, LONGEST_VALUE) + "'";
      try {
        if (type == Integer.class) {
          return Integer.valueOf(text);
        }
        if (type == Long.class) {
          return Long.valueOf(text);
        }
        if (type == Double.class) {
          return number(name, Double.parseDouble(text), text, shown);
        }
      } catch (NumberFormatException e) {
        throw new InvalidInputException("%s must be %s, not %s".formatted(name, kind(), shown), e);
      }
      if (type == Boolean.class) {
        if (!text.equals("true") && !text.equals("false")) {
          throw new InvalidInputException("%s must be %s, not %s".formatted(name, kind(), shown));
        }
        return text.equals("true");
      }
      return text;
    }

    /// The value that stands in a file. One of another kind is an error, not something to be
    /// converted: `steps = 1.5` is no step count.
    Object read(JsonNode value, @Nullable Path file) {
      String where = file == null ? "" : file + ": ";
      String shown = Printable.brief(value, LONGEST_VALUE);
      if (type == Integer.class && value.isIntegralNumber() && value.canConvertToInt()) {
        return value.intValue();
      }
      if (type == Long.class && value.isIntegralNumber() && value.canConvertToLong()) {
        return value.longValue();
      }
      if (type == Double.class && value.isNumber()) {
        return number(where + name, value.asDouble(Double.NaN), value.asString(), shown);
      }
      if (type == Boolean.class && value.isBoolean()) {
        return value.booleanValue();
      }
      if (type == String.class && value.isString()) {
        return value.stringValue();
      }
      throw new InvalidInputException(
          "%s%s must be %s, not %s".formatted(where, name, kindInFile(), shown));
    }

    private String kindInFile() {
      return type == String.class ? "text in quotes" : type == Double.class ? "a number" : kind();
    }

    private String kind() {
      if (type == Integer.class) {
        return "a whole number up to " + Integer.MAX_VALUE;
      }
      if (type == Long.class) {
        return "a whole number up to " + Long.MAX_VALUE;
      }
      return type == Double.class ? "a finite number" : "true or false";
    }

    /// Refuses a value that is out of bounds.
    private void check(Object value) {
      if (value instanceof String text && !StandardCharsets.UTF_8.newEncoder().canEncode(text)) {
        throw new InvalidInputException( // no file could hold it
            "'%s' holds half a character (a surrogate without its other half); give whole characters"
                .formatted(Printable.brief(text, LONGEST_VALUE)));
      }
      if (value instanceof Number number) {
        double n = number.doubleValue();
        require(
            n >= about.least() && n > about.above() && n <= about.most() && n < about.below(),
            name,
            value,
            "use "
                + (about.use().isEmpty() ? "at least " + Math.round(about.least()) : about.use()));
      }
    }
  }

  private final Class<R> type;
  private final Map<String, Declared> declared = new LinkedHashMap<>();

  private Settings(Class<R> type) {
    this.type = type;
    declare(type, "");
  }

  /// Those of a record.
  public static <R extends Record> Settings<R> of(Class<R> type) {
    return new Settings<>(type);
  }

  private void declare(Class<?> record, String above) {
    String heading = above;
    for (RecordComponent component : record.getRecordComponents()) {
      var own = component.getAnnotation(Setting.Heading.class);
      heading = own == null ? heading : own.value();
      var about = component.getAnnotation(Setting.class);
      if (about == null) {
        declare(component.getType(), heading);
      } else {
        String name = name(component);
        declared.put(name, new Declared(name, heading, boxed(component.getType()), about));
      }
      heading = "";
    }
  }

  private static String name(RecordComponent component) {
    return component.getName().replaceAll("([A-Z])", "_$1").toLowerCase(Locale.ROOT);
  }

  private static Class<?> boxed(Class<?> type) {
    if (type == int.class) {
      return Integer.class;
    }
    if (type == long.class) {
      return Long.class;
    }
    if (type == double.class) {
      return Double.class;
    }
    if (type == boolean.class) {
      return Boolean.class;
    }
    if (type == String.class) {
      return String.class;
    }
    throw new IllegalArgumentException("a setting cannot be a " + type);
  }

  /// All of them, in order.
  public List<Declared> declared() {
    return List.copyOf(declared.values());
  }

  /// The record in which nobody has said anything.
  public R initial() {
    var values = new LinkedHashMap<String, Object>();
    declared.forEach((name, setting) -> values.put(name, setting.initial()));
    return record(values);
  }

  /// Every value by its setting's name, in order.
  public Map<String, Object> values(R record) {
    var values = new LinkedHashMap<String, Object>();
    collect(record, values);
    return values;
  }

  private void collect(Record record, Map<String, Object> values) {
    for (RecordComponent component : record.getClass().getRecordComponents()) {
      Object value = get(component, record);
      if (value instanceof Record part) {
        collect(part, values);
      } else {
        values.put(name(component), value);
      }
    }
  }

  private static Object get(RecordComponent component, Record record) {
    try {
      return Objects.requireNonNull(component.getAccessor().invoke(record));
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException(e);
    }
  }

  /// The record with values of a file and of flags in place of its own; flags win.
  ///
  /// @param read from the file
  /// @param file for messages; null where there is none
  /// @param flags by the settings' names
  public R with(R record, ObjectNode read, @Nullable Path file, Map<String, String> flags) {
    var values = values(record);
    for (var entry : read.properties()) {
      var setting = known(entry.getKey(), String.valueOf(file));
      values.put(setting.name(), setting.read(entry.getValue(), file));
    }
    flags.forEach((name, text) -> values.put(name, known(name, "the command line").parse(text)));
    return record(values);
  }

  private Declared known(String name, String source) {
    var setting = declared.get(name);
    if (setting == null) {
      throw new InvalidInputException(
          "unknown setting '%s' in %s; known are %s"
              .formatted(
                  Printable.brief(name, LONGEST_VALUE), source, nearest(name, declared.keySet())));
    }
    return setting;
  }

  /// Names in a sentence: those nearest to one that is none of them first, and how many more there
  /// are.
  public static String nearest(String wrong, Collection<String> names) {
    String brief = Printable.brief(wrong, LONGEST_VALUE);
    var near =
        names.stream()
            .sorted(Comparator.comparingInt(name -> distance(brief, name)))
            .limit(NEAREST)
            .toList();
    int others = names.size() - near.size();
    return String.join(", ", near)
        + (others > 0 ? " and %d more, which train --help lists".formatted(others) : "");
  }

  /// How many letters have to be added, taken out or changed (Levenshtein 1966).
  public static int distance(String a, String b) {
    int[] row = IntStream.rangeClosed(0, b.length()).toArray();
    for (int i = 1; i <= a.length(); i++) {
      int diagonal = row[0];
      row[0] = i;
      for (int j = 1; j <= b.length(); j++) {
        int changed = diagonal + (a.charAt(i - 1) == b.charAt(j - 1) ? 0 : 1);
        diagonal = row[j];
        row[j] = Math.min(changed, 1 + Math.min(row[j], row[j - 1]));
      }
    }
    return row[b.length()];
  }

  private R record(Map<String, Object> values) {
    declared.forEach((name, setting) -> setting.check(Objects.requireNonNull(values.get(name))));
    return type.cast(record(type, values));
  }

  private static Object record(Class<?> type, Map<String, Object> values) {
    var components = type.getRecordComponents();
    List<@Nullable Object> arguments = new ArrayList<>();
    for (RecordComponent component : components) {
      arguments.add(
          component.isAnnotationPresent(Setting.class)
              ? values.get(name(component))
              : record(component.getType(), values));
    }
    try {
      return type.getConstructor(
              Arrays.stream(components).map(RecordComponent::getType).toArray(Class<?>[]::new))
          .newInstance(arguments.toArray());
    } catch (InvocationTargetException e) {
      if (e.getCause() instanceof InvalidInputException invalid) {
        throw invalid;
      }
      throw new IllegalStateException(e.getCause());
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException(e);
    }
  }

  /// Refuses a value, for a record that checks what its bounds cannot say.
  public static void require(boolean holds, String name, Object value, String wayOut) {
    if (!holds) {
      throw new InvalidInputException(
          "%s cannot be %s; %s".formatted(name, Printable.brief(value, LONGEST_VALUE), wayOut));
    }
  }

  /// The number that a text stands for.
  ///
  /// @param what it is of, which a message begins with
  /// @param text of a number in decimal digits
  /// @throws InvalidInputException if it cannot be computed with, so that 0 or infinity would take
  ///   its place
  public static double number(String what, String text) {
    return number(
        what, Double.parseDouble(text), text, "'" + Printable.brief(text, LONGEST_VALUE) + "'");
  }

  private static double number(String what, double number, String text, String shown) {
    if (!Double.isFinite(number)) {
      throw new InvalidInputException("%s must be a finite number, not %s".formatted(what, shown));
    }
    if (number == 0 && !isZero(text)) {
      throw new InvalidInputException(
          "%s cannot be %s, which is too near to zero to be told from it; give 0 or a larger number"
              .formatted(what, shown));
    }
    return number;
  }

  /// Whether a text that is read as the number 0 says 0: all digits before an exponent are zero.
  private static boolean isZero(String text) {
    String number = text.strip().toLowerCase(Locale.ROOT);
    boolean hexadecimal = number.contains("0x");
    String digits = number.replaceFirst(hexadecimal ? "p.*" : "e.*", "");
    return digits.matches(hexadecimal ? "[^1-9a-f]*" : "[^1-9]*");
  }
}
