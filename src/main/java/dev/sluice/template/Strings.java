package dev.sluice.template;

import static dev.sluice.template.Numbers.whole;

import dev.sluice.template.Values.Tuple;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.IntPredicate;
import org.jspecify.annotations.Nullable;

/// The methods of strings, as Python has them. What they give keeps the origin of each character.
final class Strings {
  interface Method {
    Object of(Values values, Text self, Arguments arguments);
  }

  private static final int ALL = -1;

  static final Map<String, Method> METHODS =
      Map.ofEntries(
          Map.entry("strip", (v, s, a) -> strip(v, s, chars("strip", a), true, true)),
          Map.entry("lstrip", (v, s, a) -> strip(v, s, chars("lstrip", a), true, false)),
          Map.entry("rstrip", (v, s, a) -> strip(v, s, chars("rstrip", a), false, true)),
          Map.entry("split", (v, s, a) -> split(v, s, a, "split")),
          Map.entry("rsplit", (v, s, a) -> split(v, s, a, "rsplit")),
          Map.entry("splitlines", (v, s, a) -> lines(v, s)),
          Map.entry("startswith", (v, s, a) -> hasAffix(v, s, a, "startswith")),
          Map.entry("endswith", (v, s, a) -> hasAffix(v, s, a, "endswith")),
          Map.entry("removeprefix", Strings::removePrefix),
          Map.entry("removesuffix", Strings::removeSuffix),
          Map.entry("replace", Strings::replace),
          Map.entry("join", Strings::join),
          Map.entry("find", (v, s, a) -> find(v, s, a, "find")),
          Map.entry("rfind", (v, s, a) -> find(v, s, a, "rfind")),
          Map.entry("index", (v, s, a) -> find(v, s, a, "index")),
          Map.entry("count", Strings::count),
          Map.entry("format", Strings::format),
          Map.entry("upper", (v, s, a) -> upper(v, s)),
          Map.entry("lower", (v, s, a) -> lower(v, s)),
          Map.entry("title", (v, s, a) -> title(v, s)),
          Map.entry("capitalize", (v, s, a) -> capitalize(v, s)));

  private Strings() {}

  private static Text text(String method, Object value) {
    if (value instanceof Text text) {
      return text;
    }
    Values.refuseUndefined(value);
    throw TemplateFailure.of("%s takes a string, not '%s'", method, Values.typeName(value));
  }

  static @Nullable Text chars(String method, Arguments arguments) {
    Object chars = arguments.bind(method, 0, "chars")[0];
    return chars == Arguments.ABSENT || chars == None.NONE ? null : text(method, chars);
  }

  /// @param chars null for white space
  static Text strip(Values values, Text self, @Nullable Text chars, boolean left, boolean right) {
    String string = self.string();
    values.work().spend(string.length());
    IntPredicate stripped =
        chars == null
            ? Text::isSpace
            : c -> {
              values.work().spend(chars.string().length());
              return chars.string().indexOf(c) >= 0;
            };
    int from = 0;
    int to = string.length();
    while (left && from < to && stripped.test(string.codePointAt(from))) {
      from += Character.charCount(string.codePointAt(from));
    }
    while (right && from < to && stripped.test(string.codePointBefore(to))) {
      to -= Character.charCount(string.codePointBefore(to));
    }
    return self.cut(from, to);
  }

  private static int limit(Object value, String method) {
    if (value == Arguments.ABSENT) {
      return ALL;
    }
    Values.refuseUndefined(value);
    BigInteger limit = Numbers.asWhole(value);
    if (limit == null) {
      throw TemplateFailure.of("%s takes a whole number, not '%s'", method, Values.typeName(value));
    }
    return limit.signum() < 0 ? ALL : limit.bitLength() > 31 ? Integer.MAX_VALUE : limit.intValue();
  }

  private static Object split(Values values, Text self, Arguments arguments, String method) {
    Object[] given = arguments.bind(method, 0, "sep", "maxsplit");
    int limit = limit(given[1], method);
    int most = limit == ALL ? Integer.MAX_VALUE : limit;
    boolean last = method.equals("rsplit");
    values.work().spend(self.string().length());
    List<Object> parts;
    if (given[0] == Arguments.ABSENT || given[0] == None.NONE) {
      parts = last ? rsplitAtSpace(self, most) : splitAtSpace(self, most);
    } else {
      String separator = text(method, given[0]).string();
      if (separator.isEmpty()) {
        throw new TemplateFailure("empty separator");
      }
      values.work().search(self.string(), separator);
      parts = last ? rsplit(self, separator, most) : split(self, separator, most);
    }
    values.work().spend((long) Work.OBJECT * parts.size());
    return parts;
  }

  private static List<Object> split(Text self, String separator, int most) {
    var parts = new ArrayList<Object>();
    String string = self.string();
    int from = 0;
    int found;
    while (parts.size() < most && (found = string.indexOf(separator, from)) >= 0) {
      parts.add(self.cut(from, found));
      from = found + separator.length();
    }
    parts.add(self.cut(from, string.length()));
    return parts;
  }

  private static List<Object> rsplit(Text self, String separator, int most) {
    var parts = new ArrayList<Object>();
    String string = self.string();
    int to = string.length();
    int found;
    while (parts.size() < most
        && (found = string.lastIndexOf(separator, to - separator.length())) >= 0) {
      parts.add(self.cut(found + separator.length(), to));
      to = found;
    }
    parts.add(self.cut(0, to));
    return new ArrayList<>(parts.reversed());
  }

  private static List<Object> splitAtSpace(Text self, int most) {
    var parts = new ArrayList<Object>();
    String string = self.string();
    int at = 0;
    while (true) {
      while (at < string.length() && Text.isSpace(string.charAt(at))) {
        at++;
      }
      if (at == string.length()) {
        return parts;
      }
      int from = at;
      if (parts.size() == most) {
        parts.add(self.cut(from, string.length()));
        return parts;
      }
      while (at < string.length() && !Text.isSpace(string.charAt(at))) {
        at++;
      }
      parts.add(self.cut(from, at));
    }
  }

  private static List<Object> rsplitAtSpace(Text self, int most) {
    var parts = new ArrayList<Object>();
    String string = self.string();
    int at = string.length();
    while (true) {
      while (at > 0 && Text.isSpace(string.charAt(at - 1))) {
        at--;
      }
      if (at == 0) {
        break;
      }
      int to = at;
      if (parts.size() == most) {
        parts.add(self.cut(0, to));
        break;
      }
      while (at > 0 && !Text.isSpace(string.charAt(at - 1))) {
        at--;
      }
      parts.add(self.cut(at, to));
    }
    return new ArrayList<>(parts.reversed());
  }

  /// Without their ends, which are those of Python.
  static List<Object> lines(Values values, Text self) {
    var lines = new ArrayList<Object>();
    String string = self.string();
    values.work().spend(string.length());
    int from = 0;
    for (int i = 0; i < string.length(); i++) {
      char c = string.charAt(i);
      if ((c >= '\n' && c <= '\r')
          || (c >= 0x1C && c <= 0x1E)
          || c == 0x85
          || c == 0x2028
          || c == 0x2029) {
        lines.add(self.cut(from, i));
        i += c == '\r' && string.startsWith("\n", i + 1) ? 1 : 0;
        from = i + 1;
      }
    }
    if (from < string.length()) {
      lines.add(self.cut(from, string.length()));
    }
    values.work().spend((long) Work.OBJECT * lines.size());
    return lines;
  }

  private static Object hasAffix(Values values, Text self, Arguments arguments, String method) {
    Object affix = arguments.bind(method, 1, "prefix")[0];
    List<Object> affixes = affix instanceof Tuple several ? several.items() : List.of(affix);
    for (Object one : affixes) {
      String string = text(method, one).string();
      values.work().spend(string.length());
      if (method.equals("endswith")
          ? self.string().endsWith(string)
          : self.string().startsWith(string)) {
        return true;
      }
    }
    return false;
  }

  private static Object removePrefix(Values values, Text self, Arguments arguments) {
    String prefix = text("removeprefix", arguments.bind("removeprefix", 1, "prefix")[0]).string();
    values.work().spend(self.string().length());
    return self.string().startsWith(prefix)
        ? self.cut(prefix.length(), self.string().length())
        : self;
  }

  private static Object removeSuffix(Values values, Text self, Arguments arguments) {
    String suffix = text("removesuffix", arguments.bind("removesuffix", 1, "suffix")[0]).string();
    values.work().spend(self.string().length());
    return self.string().endsWith(suffix)
        ? self.cut(0, self.string().length() - suffix.length())
        : self;
  }

  private static Object replace(Values values, Text self, Arguments arguments) {
    Object[] given = arguments.bind("replace", 2, "old", "new", "count");
    plain(self, "replace");
    int limit = limit(given[2], "replace");
    return replace(values, self, text("replace", given[0]), text("replace", given[1]), limit);
  }

  private static void plain(Text self, String method) {
    if (self.isSafe()) {
      throw TemplateFailure.outside("'%s' of a text that is marked as safe".formatted(method));
    }
  }

  /// @param limit less than zero for all
  static Text replace(Values values, Text self, Text old, Text by, int limit) {
    String string = self.string();
    String wanted = old.string();
    var builder = new Text.Builder(values.work());
    values.work().search(string, wanted);
    int from = 0;
    int found = limit == 0 ? -1 : string.indexOf(wanted);
    for (int done = 0; found >= 0; ) {
      builder.append(self, from, found);
      builder.append(by);
      values.work().spend(1);
      from = found + wanted.length();
      done++;
      int next = from;
      if (wanted.isEmpty()) { // stands before each character and at the end
        if (found == string.length()) {
          break;
        }
        next = string.offsetByCodePoints(found, 1);
      }
      found = done == limit ? -1 : string.indexOf(wanted, next);
    }
    builder.append(self, from, string.length());
    return builder.text();
  }

  private static Object join(Values values, Text self, Arguments arguments) {
    plain(self, "join");
    List<Object> parts = values.iterate(arguments.bind("join", 1, "iterable")[0]);
    for (int i = 0; i < parts.size(); i++) {
      if (!(parts.get(i) instanceof Text)) {
        throw TemplateFailure.of(
            "sequence item %d: expected str instance, %s found", i, Values.typeName(parts.get(i)));
      }
    }
    return join(values, self, parts);
  }

  static Text join(Values values, Text separator, List<Object> parts) {
    var builder = new Text.Builder(values.work());
    boolean first = true;
    for (Object part : parts) {
      values.work().spend(Work.ELEMENT);
      if (!first) {
        builder.append(separator);
      }
      builder.append(values.text(part));
      first = false;
    }
    return builder.text();
  }

  /// Python's `format` with fields that only name what stands there: `{}`, `{0}`, `{name}`.
  private static Object format(Values values, Text self, Arguments arguments) {
    plain(self, "format");
    String string = self.string();
    var builder = new Text.Builder(values.work());
    int next = 0;
    for (int i = 0; i < string.length(); i++) {
      char c = string.charAt(i);
      boolean doubled = (c == '{' || c == '}') && string.startsWith(String.valueOf(c), i + 1);
      int end = c == '{' ? string.indexOf('}', i) : -1;
      if ((c != '{' && c != '}') || doubled) {
        builder.append(self, i, i + 1);
        i += doubled ? 1 : 0;
      } else if (c == '}' || end < 0) {
        throw TemplateFailure.of("format: a single '%c' stands in the text", c);
      } else {
        String field = string.substring(i + 1, end);
        builder.append(
            values.text(field(arguments, field.isEmpty() ? String.valueOf(next++) : field)));
        i = end;
      }
    }
    return builder.text();
  }

  private static Object field(Arguments arguments, String field) {
    boolean number = field.length() < 9 && field.chars().allMatch(c -> c >= '0' && c <= '9');
    if (!number && !field.chars().allMatch(c -> c == '_' || Character.isLetterOrDigit(c))) {
      throw TemplateFailure.outside("the field '{%s}' of a format".formatted(field));
    }
    int place = number ? Integer.parseInt(field) : arguments.positional().size();
    Object value =
        number && place < arguments.positional().size()
            ? arguments.positional().get(place)
            : arguments.named().get(field);
    if (value == null) {
      throw TemplateFailure.of("format has nothing for the field '{%s}'", field);
    }
    return value;
  }

  private static Object find(Values values, Text self, Arguments arguments, String method) {
    String wanted = text(method, arguments.bind(method, 1, "sub")[0]).string();
    String string = self.string();
    values.work().search(string, wanted);
    int found = method.equals("rfind") ? string.lastIndexOf(wanted) : string.indexOf(wanted);
    if (found < 0 && method.equals("index")) {
      throw new TemplateFailure("substring not found");
    }
    return whole(found < 0 ? -1 : string.codePointCount(0, found));
  }

  private static Object count(Values values, Text self, Arguments arguments) {
    String wanted = text("count", arguments.bind("count", 1, "sub")[0]).string();
    String string = self.string();
    values.work().search(string, wanted);
    if (wanted.isEmpty()) {
      return whole(self.length() + 1);
    }
    int count = 0;
    for (int at = string.indexOf(wanted);
        at >= 0;
        at = string.indexOf(wanted, at + wanted.length())) {
      count++;
    }
    return whole(count);
  }

  static Text upper(Values values, Text self) {
    return self.mapped(string -> string.toUpperCase(Locale.ROOT), values.work());
  }

  static Text lower(Values values, Text self) {
    return self.mapped(string -> string.toLowerCase(Locale.ROOT), values.work());
  }

  /// The form of a letter at the start of a word: `ǆ` is `ǅ`, `ß` is `Ss`.
  private static String titled(String letter) {
    int c = letter.codePointAt(0);
    if (Character.toTitleCase(c) != c) {
      return Character.toString(Character.toTitleCase(c));
    }
    String upper = letter.toUpperCase(Locale.ROOT);
    int first = Character.charCount(upper.codePointAt(0));
    return upper.substring(0, first) + upper.substring(first).toLowerCase(Locale.ROOT);
  }

  private static int firstLetter(String string) {
    return string.isEmpty() ? 0 : Character.charCount(string.codePointAt(0));
  }

  static Text capitalize(Values values, Text self) {
    int first = firstLetter(self.string());
    var builder = new Text.Builder(values.work());
    builder.append(self.cut(0, first).mapped(Strings::titledOrEmpty, values.work()));
    builder.append(lower(values, self.cut(first, self.string().length())));
    return self.isSafe() ? builder.text().safe() : builder.text();
  }

  private static String titledOrEmpty(String letter) {
    return letter.isEmpty() ? letter : titled(letter);
  }

  private static boolean hasCase(int c) {
    return Character.isUpperCase(c) || Character.isLowerCase(c) || Character.isTitleCase(c);
  }

  /// A letter is at the start of a word where none with a case stands before it.
  private static Text title(Values values, Text self) {
    String string = self.string();
    var builder = new Text.Builder(values.work());
    boolean within = false;
    for (int i = 0; i < string.length(); ) {
      int end = i + Character.charCount(string.codePointAt(i));
      String letter = string.substring(i, end);
      builder.append(
          within ? letter.toLowerCase(Locale.ROOT) : titled(letter), self.isConversations(i));
      within = hasCase(string.codePointAt(i));
      i = end;
    }
    return self.isSafe() ? builder.text().safe() : builder.text();
  }

  /// What the filter `title` does: words end at white space and at `-({[<`.
  static Text titleOfWords(Values values, Text self) {
    String string = self.string();
    var builder = new Text.Builder(values.work());
    for (int i = 0; i < string.length(); ) {
      int end = i;
      while (end < string.length() && isBreak(string.charAt(end)) == isBreak(string.charAt(i))) {
        end++;
      }
      Text word = self.cut(i, end);
      int first = firstLetter(word.string());
      builder.append(upper(values, word.cut(0, first)));
      builder.append(lower(values, word.cut(first, word.string().length())));
      i = end;
    }
    return self.isSafe() ? builder.text().safe() : builder.text();
  }

  private static boolean isBreak(char c) {
    return Text.isSpace(c) || "-({[<".indexOf(c) >= 0;
  }
}
