package dev.sluice.schema;

/// Reads the inside of a JSON string a byte at a time: UTF-8, escapes, surrogate pairs that are
/// whole. A state is a number: what is open in the lowest four bits, what was read of it above.
final class StringLexer {
  /// Between characters.
  static final int BODY = 0;

  /// No string has this byte here.
  static final long DEAD = -1;

  /// The quotation mark at the end.
  static final long CLOSE = -2;

  private static final int ESCAPE = 1;
  private static final int HEX = 2; // + digits read, 0 … 3
  private static final int HIGH = 6; // after the first half of a pair
  private static final int HIGH_ESCAPE = 7;
  private static final int LOW = 8; // + digits read, 0 … 3, of the second half
  private static final int BYTES = 11; // + bytes of a character that are still to come, 1 … 3

  /// States below this have read nothing of what is open: they are few and come often.
  static final int PLAIN_STATES = 16;

  private static final int KIND_BITS = 4;
  private static final int HEX_DIGITS = 4;
  private static final int FIRST_HIGH = 0xD800;
  private static final int FIRST_LOW = 0xDC00;
  private static final int AFTER_LOW = 0xE000;
  private static final int PAIRS = 0x10000; // where the characters begin that are pairs
  private static final int HALF_BITS = 10;
  private static final int LOW_BITS = 12; // of three digits of the second half

  private StringLexer() {}

  /// Which characters are possible, asked for ranges of them.
  @FunctionalInterface
  interface Ranges {
    /// Whether a character from `low` to `high`, both included, is possible.
    boolean overlap(int low, int high);
  }

  private static int state(int kind, int read) {
    return read << KIND_BITS | kind;
  }

  private static long whole(int character) {
    return (character + 1L) << Integer.SIZE | BODY;
  }

  /// The state after a byte, in the lowest half; [#DEAD]; or [#CLOSE].
  static long step(int state, int b) {
    int kind = state & ((1 << KIND_BITS) - 1);
    int read = state >>> KIND_BITS;
    return switch (kind) {
      case BODY -> first(b);
      case ESCAPE -> escaped(b);
      case HIGH -> b == '\\' ? state(HIGH_ESCAPE, read) : DEAD;
      case HIGH_ESCAPE -> b == 'u' ? state(LOW, read << LOW_BITS) : DEAD;
      case HEX, HEX + 1, HEX + 2, HEX + 3 -> hex(kind - HEX, read, b);
      case LOW, LOW + 1, LOW + 2, LOW + 3 -> low(kind - LOW, read, b);
      default -> continued(kind - BYTES, read, b);
    };
  }

  /// The character that a step of [#step] made whole, or -1.
  static int character(long step) {
    return (int) (step >>> Integer.SIZE) - 1;
  }

  private static long first(int b) {
    if (b == '"') {
      return CLOSE;
    }
    if (b == '\\') {
      return ESCAPE;
    }
    if (b < 0x80) {
      return b < 0x20 ? DEAD : whole(b);
    }
    if (b < 0xC2 || b > 0xF4) {
      return DEAD;
    }
    if (b < 0xE0) {
      return state(BYTES + 1, b & 0x1F);
    }
    return b < 0xF0 ? state(BYTES + 2, b & 0xF) : state(BYTES + 3, b & 7);
  }

  /// Overlong forms, halves of pairs and what is beyond Unicode are told by the second byte.
  private static long continued(int left, int read, int b) {
    if ((b & 0xC0) != 0x80) {
      return DEAD;
    }
    int now = read << 6 | (b & 0x3F);
    if (left == 1) {
      return whole(now);
    }
    if (left == 3) {
      return now >= PAIRS >> 12 && now <= Character.MAX_CODE_POINT >> 12
          ? state(BYTES + 2, now)
          : DEAD;
    }
    boolean hasThree = read < PAIRS >> 12;
    boolean isHalf = now >= FIRST_HIGH >> 6 && now < AFTER_LOW >> 6;
    return hasThree && (now < 0x20 || isHalf) ? DEAD : state(BYTES + 1, now);
  }

  private static long escaped(int b) {
    return switch (b) {
      case '"', '\\', '/' -> whole(b);
      case 'b' -> whole('\b');
      case 'f' -> whole('\f');
      case 'n' -> whole('\n');
      case 'r' -> whole('\r');
      case 't' -> whole('\t');
      case 'u' -> HEX;
      default -> DEAD;
    };
  }

  private static long hex(int digits, int read, int b) {
    int digit = Character.digit(b, 16);
    int now = read << 4 | digit;
    if (digit < 0 || b >= 0x80 || (digits == 1 && now >= FIRST_LOW >> 8 && now < AFTER_LOW >> 8)) {
      return DEAD;
    }
    if (digits < 3) {
      return state(HEX + digits + 1, now);
    }
    return now >= FIRST_HIGH && now < FIRST_LOW ? state(HIGH, now - FIRST_HIGH) : whole(now);
  }

  private static long low(int digits, int read, int b) {
    int high = read >>> LOW_BITS;
    int digit = Character.digit(b, 16);
    int now = (read & 0xFFF) << 4 | digit;
    if (digit < 0
        || b >= 0x80
        || (digits == 0 && now != FIRST_LOW >> 12)
        || (digits == 1 && now < FIRST_LOW >> 8)) {
      return DEAD;
    }
    return digits < 3
        ? state(LOW + digits + 1, (high << LOW_BITS) | now)
        : whole(PAIRS + (high << HALF_BITS) + now - FIRST_LOW);
  }

  /// Whether what is open in a state can become a possible character.
  static boolean canBecome(int state, Ranges possible) {
    int kind = state & ((1 << KIND_BITS) - 1);
    int read = state >>> KIND_BITS;
    return switch (kind) {
      case BODY, ESCAPE -> possible.overlap(0, Character.MAX_CODE_POINT);
      case HIGH, HIGH_ESCAPE -> possible.overlap(pair(read, 0), pair(read, 0x3FF));
      case HEX, HEX + 1, HEX + 2, HEX + 3 -> {
        int open = 4 * (HEX_DIGITS - (kind - HEX));
        yield unit(read << open, ((read + 1) << open) - 1, possible);
      }
      case LOW, LOW + 1, LOW + 2, LOW + 3 -> {
        int high = read >>> LOW_BITS;
        int open = 4 * (HEX_DIGITS - (kind - LOW));
        int from = Math.max((read & 0xFFF) << open, FIRST_LOW);
        int to = Math.min((((read & 0xFFF) + 1) << open) - 1, AFTER_LOW - 1);
        yield possible.overlap(pair(high, from - FIRST_LOW), pair(high, to - FIRST_LOW));
      }
      default -> {
        int left = kind - BYTES;
        int from = read << (6 * left);
        int to = ((read + 1) << (6 * left)) - 1;
        int least = left == 3 ? PAIRS : left == 2 ? 0x800 : 0x80;
        yield possible.overlap(Math.max(from, least), Math.min(to, Character.MAX_CODE_POINT));
      }
    };
  }

  private static int pair(int high, int low) {
    return PAIRS + (high << HALF_BITS) + low;
  }

  /// A `\\u` with a number from one to another: a character, or the first half of a pair.
  private static boolean unit(int from, int to, Ranges possible) {
    int firstHalf = Math.max(from, FIRST_HIGH);
    int lastHalf = Math.min(to, FIRST_LOW - 1);
    return (from < FIRST_HIGH && possible.overlap(from, Math.min(to, FIRST_HIGH - 1)))
        || (to >= AFTER_LOW && possible.overlap(Math.max(from, AFTER_LOW), to))
        || (firstHalf <= lastHalf
            && possible.overlap(
                pair(firstHalf - FIRST_HIGH, 0), pair(lastHalf - FIRST_HIGH, 0x3FF)));
  }
}
