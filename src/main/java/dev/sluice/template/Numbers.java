package dev.sluice.template;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.math.MathContext;
import java.util.Locale;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/// Arithmetic of Python: whole numbers have as many digits as they need, up to what Python prints;
/// `//` and `%` go down, not to zero; truth values count as 0 and 1.
final class Numbers {
  static final int MOST_DIGITS = 4300;

  /// Of a number of that many digits.
  private static final int MOST_BITS = 14_284;

  private static final String DIGITS = "[0-9]++(?:_[0-9]++)*+";

  private static final Pattern FLOAT =
      Pattern.compile(
          "[+-]?+(?:%1$s(?:\\.(?:%1$s)?+)?+|\\.%1$s)(?:[eE][+-]?+%1$s)?+".formatted(DIGITS));

  private static final Pattern SPECIAL = Pattern.compile("(?i)([+-]?)(inf|infinity|nan)");

  private Numbers() {}

  static boolean isNumber(Object value) {
    return value instanceof BigInteger || value instanceof Double || value instanceof Boolean;
  }

  static BigInteger whole(long value) {
    return BigInteger.valueOf(value);
  }

  /// A whole number or a truth value as a whole number, else null.
  static @Nullable BigInteger asWhole(Object value) {
    return switch (value) {
      case BigInteger whole -> whole;
      case Boolean truth -> truth ? BigInteger.ONE : BigInteger.ZERO;
      default -> null;
    };
  }

  static double asDouble(Object number) {
    BigInteger whole = asWhole(number);
    double value = whole == null ? (Double) number : whole.doubleValue();
    if (whole != null && Double.isInfinite(value)) {
      throw new TemplateFailure("int too large to convert to float");
    }
    return value;
  }

  /// What an operation costs, in characters.
  static long size(String operator, Object left, Object right) {
    BigInteger a = asWhole(left);
    BigInteger b = asWhole(right);
    long bits =
        a == null || b == null
            ? 0
            : operator.equals("**") ? MOST_BITS : a.bitLength() + b.bitLength();
    return (bits * bits) >> 16;
  }

  static Object binary(String operator, Object left, Object right) {
    BigInteger a = asWhole(left);
    BigInteger b = asWhole(right);
    if (a == null || b == null) {
      return binary(operator, asDouble(left), asDouble(right));
    }
    return switch (operator) {
      case "+" -> bounded(a.add(b));
      case "-" -> bounded(a.subtract(b));
      case "*" -> {
        require(a.bitLength() + b.bitLength());
        yield bounded(a.multiply(b));
      }
      case "/" -> quotient(a, nonzero(b, "division by zero"));
      case "//" -> floor(a, nonzero(b, "integer division or modulo by zero"))[0];
      case "%" -> floor(a, nonzero(b, "integer modulo by zero"))[1];
      default -> power(a, b);
    };
  }

  private static BigInteger nonzero(BigInteger divisor, String otherwise) {
    if (divisor.signum() == 0) {
      throw new TemplateFailure(otherwise);
    }
    return divisor;
  }

  private static void require(long bits) {
    if (bits > MOST_BITS) {
      throw TemplateFailure.of("a whole number grows beyond %d digits", MOST_DIGITS);
    }
  }

  private static BigInteger bounded(BigInteger value) {
    require(value.bitLength());
    return value;
  }

  private static double quotient(BigInteger a, BigInteger b) {
    double exact = 0x1p53;
    double x = a.doubleValue();
    double y = b.doubleValue();
    if (Math.abs(x) > exact || Math.abs(y) > exact) {
      x = new BigDecimal(a).divide(new BigDecimal(b), new MathContext(60)).doubleValue();
      y = 1;
    }
    if (Double.isInfinite(x)) {
      throw new TemplateFailure("integer division result too large for a float");
    }
    return x / y;
  }

  /// Quotient and remainder; the remainder has the divisor's sign.
  private static BigInteger[] floor(BigInteger a, BigInteger b) {
    BigInteger[] parts = a.divideAndRemainder(b);
    if (parts[1].signum() * b.signum() < 0) {
      parts[0] = parts[0].subtract(BigInteger.ONE);
      parts[1] = parts[1].add(b);
    }
    return parts;
  }

  private static Object power(BigInteger a, BigInteger b) {
    if (b.signum() < 0) {
      return binary("**", asDouble(a), asDouble(b));
    }
    boolean small = a.abs().compareTo(BigInteger.ONE) <= 0;
    int exponent = small ? (b.testBit(0) ? 1 : 2) : b.bitLength() > 31 ? MOST_BITS : b.intValue();
    if (b.signum() == 0) {
      return BigInteger.ONE;
    }
    require((a.bitLength() - 1L) * exponent);
    return bounded(a.pow(exponent));
  }

  private static Object binary(String operator, double a, double b) {
    if (b == 0 && (operator.equals("/") || operator.equals("//") || operator.equals("%"))) {
      throw new TemplateFailure(
          operator.equals("/") ? "float division by zero" : "float floor division by zero");
    }
    return switch (operator) {
      case "+" -> a + b;
      case "-" -> a - b;
      case "*" -> a * b;
      case "/" -> a / b;
      case "//" -> floor(a, b);
      case "%" -> remainder(a, b);
      default -> power(a, b);
    };
  }

  private static double remainder(double a, double b) {
    double rest = a % b;
    if (rest == 0) {
      return Math.copySign(0.0, b);
    }
    return (rest < 0) == (b < 0) ? rest : rest + b;
  }

  private static double floor(double a, double b) {
    double rest = a % b;
    double quotient = (a - rest) / b;
    if (rest != 0 && (rest < 0) != (b < 0)) {
      quotient -= 1;
    }
    if (quotient == 0) {
      return Math.copySign(0.0, a / b);
    }
    double floor = Math.floor(quotient);
    return quotient - floor > 0.5 ? floor + 1 : floor;
  }

  private static double power(double a, double b) {
    if (a == 0 && b < 0) {
      throw new TemplateFailure("0.0 cannot be raised to a negative power");
    }
    if (a == 1 || b == 0) {
      return 1;
    }
    if (a == -1 && Double.isInfinite(b)) {
      return 1;
    }
    if (a < 0 && b != Math.rint(b) && Double.isFinite(a) && Double.isFinite(b)) {
      throw TemplateFailure.outside("a complex number");
    }
    double power = Math.pow(a, b);
    if (Double.isInfinite(power) && Double.isFinite(a) && Double.isFinite(b)) {
      throw new TemplateFailure("Numerical result out of range");
    }
    return power;
  }

  static Object sign(String sign, Object value) {
    BigInteger whole = asWhole(value);
    boolean minus = sign.equals("-");
    if (whole != null) {
      return minus ? whole.negate() : whole;
    }
    return minus ? -(Double) value : value;
  }

  static int compare(Object left, Object right) {
    BigInteger a = asWhole(left);
    BigInteger b = asWhole(right);
    if (a != null && b != null) {
      return a.compareTo(b);
    }
    if (a == null && b == null) {
      return compareDoubles((Double) left, (Double) right);
    }
    double value = (Double) (a == null ? left : right);
    if (!Double.isFinite(value)) {
      return a == null ? compareDoubles(value, 0) : compareDoubles(0, value);
    }
    BigDecimal x = a == null ? new BigDecimal(value) : new BigDecimal(a);
    BigDecimal y = b == null ? new BigDecimal(value) : new BigDecimal(b);
    return x.compareTo(y);
  }

  private static int compareDoubles(double a, double b) {
    return a < b ? -1 : a > b ? 1 : 0;
  }

  static boolean isNan(Object value) {
    return value instanceof Double number && number.isNaN();
  }

  /// As Python's `repr`: the shortest digits that give the number back, with an exponent below 1e-4
  /// and from 1e16 on.
  static String print(double value) {
    if (!Double.isFinite(value)) {
      return Double.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
    }
    if (value == 0) {
      return 1 / value < 0 ? "-0.0" : "0.0";
    }
    BigDecimal shortest = new BigDecimal(Double.toString(value)).stripTrailingZeros();
    BigDecimal digit = shortest.round(new MathContext(1)); // Java prints two where one would do
    if (digit.doubleValue() == value) {
      shortest = digit.stripTrailingZeros();
    }
    int exponent = shortest.precision() - shortest.scale() - 1;
    if (exponent >= -4 && exponent < 16) {
      return shortest.setScale(Math.max(1, shortest.scale())).toPlainString();
    }
    String digits = shortest.unscaledValue().abs().toString();
    return String.format(
        Locale.ROOT,
        "%s%s%se%s%02d",
        value < 0 ? "-" : "",
        digits.substring(0, 1),
        digits.length() > 1 ? "." + digits.substring(1) : "",
        exponent < 0 ? "-" : "+",
        Math.abs(exponent));
  }

  /// As Python's `int(text, base)`, or null.
  static @Nullable BigInteger parseWhole(String text, int base) {
    String plain = Python.strip(text);
    boolean minus = plain.startsWith("-");
    String digits = minus || plain.startsWith("+") ? plain.substring(1) : plain;
    String lower = digits.toLowerCase(Locale.ROOT);
    int prefixed =
        lower.startsWith("0x") ? 16 : lower.startsWith("0o") ? 8 : lower.startsWith("0b") ? 2 : 0;
    int radix = base;
    if (prefixed != 0 && (base == 0 || base == prefixed)) {
      radix = prefixed;
      digits = digits.substring(digits.startsWith("_", 2) ? 3 : 2);
    } else if (base == 0) {
      radix = 10;
      if (digits.length() > 1 && digits.startsWith("0") && !digits.matches("[0_]+")) {
        return null;
      }
    }
    if (radix < 2
        || radix > 36
        || digits.isEmpty()
        || digits.length() > MOST_DIGITS
        || digits.startsWith("_")
        || digits.endsWith("_")
        || digits.contains("__")) {
      return null;
    }
    digits = digits.replace("_", "");
    for (int i = 0; i < digits.length(); i++) {
      if (Character.digit(digits.charAt(i), radix) < 0) {
        return null;
      }
    }
    BigInteger value = new BigInteger(digits, radix);
    return bounded(minus ? value.negate() : value);
  }

  /// As Python's `float(text)`, or null.
  static @Nullable Double parseDouble(String text) {
    String plain = Python.strip(text);
    var special = SPECIAL.matcher(plain);
    if (special.matches()) {
      double value =
          special.group(2).toLowerCase(Locale.ROOT).equals("nan")
              ? Double.NaN
              : Double.POSITIVE_INFINITY;
      return special.group(1).equals("-") ? -value : value;
    }
    return FLOAT.matcher(plain).matches() ? Double.valueOf(plain.replace("_", "")) : null;
  }

  /// As Python's `int(number)`, or null where there is none.
  static @Nullable BigInteger truncated(double value) {
    return Double.isFinite(value) ? new BigDecimal(value).toBigInteger() : null;
  }
}
