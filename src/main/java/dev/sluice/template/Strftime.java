package dev.sluice.template;

import java.time.LocalDateTime;
import java.time.format.TextStyle;
import java.time.temporal.IsoFields;
import java.util.Locale;

/// Python's `strftime` of a time without a zone, with English names.
final class Strftime {
  private Strftime() {}

  static Text of(Values values, Text format, LocalDateTime now) {
    var builder = new Text.Builder(values.work());
    String string = format.string();
    for (int i = 0; i < string.length(); i++) {
      if (string.charAt(i) != '%' || i + 1 == string.length()) {
        builder.append(format, i, i + 1);
        continue;
      }
      boolean bare = string.charAt(i + 1) == '-' && i + 2 < string.length();
      i += bare ? 2 : 1;
      String shown = part(string.charAt(i), now);
      builder.append(bare && shown.length() > 1 ? shown.replaceFirst("^[0 ]+(?=\\d)", "") : shown);
    }
    return builder.text();
  }

  private static String part(char directive, LocalDateTime now) {
    String day = now.getDayOfWeek().getDisplayName(TextStyle.FULL, Locale.ENGLISH);
    String month = now.getMonth().getDisplayName(TextStyle.FULL, Locale.ENGLISH);
    int hour = (now.getHour() + 11) % 12 + 1;
    int weekday = now.getDayOfWeek().getValue();
    return switch (directive) {
      case 'A' -> day;
      case 'a' -> day.substring(0, 3);
      case 'B' -> month;
      case 'b', 'h' -> month.substring(0, 3);
      case 'Y' -> String.valueOf(now.getYear());
      case 'y' -> two(now.getYear() % 100);
      case 'C' -> two(now.getYear() / 100);
      case 'm' -> two(now.getMonthValue());
      case 'd' -> two(now.getDayOfMonth());
      case 'e' -> String.format(Locale.ROOT, "%2d", now.getDayOfMonth());
      case 'j' -> String.format(Locale.ROOT, "%03d", now.getDayOfYear());
      case 'H' -> two(now.getHour());
      case 'k' -> String.format(Locale.ROOT, "%2d", now.getHour());
      case 'I' -> two(hour);
      case 'l' -> String.format(Locale.ROOT, "%2d", hour);
      case 'M' -> two(now.getMinute());
      case 'S' -> two(now.getSecond());
      case 'f' -> String.format(Locale.ROOT, "%06d", now.getNano() / 1000);
      case 'p' -> now.getHour() < 12 ? "AM" : "PM";
      case 'P' -> now.getHour() < 12 ? "am" : "pm";
      case 'u' -> String.valueOf(weekday);
      case 'w' -> String.valueOf(weekday % 7);
      case 'U' -> two((now.getDayOfYear() + 6 - weekday % 7) / 7);
      case 'W' -> two((now.getDayOfYear() + 6 - (weekday - 1)) / 7);
      case 'V' -> two(now.get(IsoFields.WEEK_OF_WEEK_BASED_YEAR));
      case 'G' -> String.valueOf(now.get(IsoFields.WEEK_BASED_YEAR));
      case 'D', 'x' -> parts("m/d/y", now);
      case 'F' -> parts("Y-m-d", now);
      case 'R' -> parts("H:M", now);
      case 'T', 'X' -> parts("H:M:S", now);
      case 'r' -> parts("I:M:S p", now);
      case 'c' -> parts("a b e H:M:S Y", now);
      case 'Z', 'z' -> "";
      case 'n' -> "\n";
      case 't' -> "\t";
      case '%' -> "%";
      default -> throw TemplateFailure.outside("'%%%c' of strftime_now".formatted(directive));
    };
  }

  /// Each letter is a directive.
  private static String parts(String directives, LocalDateTime now) {
    var parts = new StringBuilder();
    for (int i = 0; i < directives.length(); i++) {
      char c = directives.charAt(i);
      parts.append(Character.isLetter(c) ? part(c, now) : String.valueOf(c));
    }
    return parts.toString();
  }

  private static String two(int number) {
    return String.format(Locale.ROOT, "%02d", number);
  }
}
