package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.JsonFile;
import dev.sluice.tensor.ElementType;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonParser;
import tools.jackson.core.JsonToken;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.databind.json.JsonMapper;

/// The JSON header of a safetensors file: which bytes of the data that follow are which tensor.
///
/// What is refused, beyond what the reference implementation refuses: a name given twice (it keeps
/// one of them), and a header that does not begin with `{` (its documentation demands it).
///
/// @param metadata free text, in the order of the file
/// @param slots the tensors in the order of their data, which they cover without gap or overlap
record SafetensorsHeader(Map<String, String> metadata, List<Slot> slots) {
  /// The reference implementation's limit: a longer header is an attack or not a header.
  static final long MAX_BYTES = 100_000_000;

  private static final String FLOAT8 = "F8_E4M3";

  private static final String METADATA = "__metadata__";

  /// libtorch's limit.
  private static final int MOST_DIMENSIONS = 64;

  /// A name that is given twice is found here, where it is known what it names.
  private static final JsonMapper JSON =
      JsonFile.mapper().disable(StreamReadFeature.STRICT_DUPLICATE_DETECTION).build();

  /// One tensor's place: bytes `begin` (inclusive) to `end` (exclusive) of the data.
  record Slot(String name, ElementType type, List<Long> shape, long begin, long end) {}

  /// How many bytes of data follow the header.
  long dataBytes() {
    return slots.isEmpty() ? 0 : slots.getLast().end();
  }

  /// Lays the tensors out as the reference implementation does, so that its file and ours have the
  /// same bytes: in [StoredTensor#REFERENCE_ORDER].
  static SafetensorsHeader layOut(Map<String, String> metadata, List<StoredTensor> tensors) {
    List<Slot> slots = new ArrayList<>();
    long begin = 0;
    for (var tensor : tensors.stream().sorted(StoredTensor.REFERENCE_ORDER).toList()) {
      long end = begin + tensor.bytes();
      slots.add(new Slot(tensor.name(), tensor.type(), tensor.shape(), begin, end));
      begin = end;
    }
    return new SafetensorsHeader(metadata, slots);
  }

  /// The header as bytes: compact JSON, metadata first, padded with spaces to a multiple of eight.
  byte[] toBytes() {
    var json = new StringBuilder("{");
    if (!metadata.isEmpty()) {
      json.append(quote(METADATA)).append(":{");
      json.append(
          metadata.entrySet().stream()
              .map(field -> quote(field.getKey()) + ":" + quote(field.getValue()))
              .collect(Collectors.joining(",")));
      json.append(slots.isEmpty() ? "}" : "},");
    }
    json.append(slots.stream().map(SafetensorsHeader::field).collect(Collectors.joining(",")));
    json.append('}');
    byte[] bytes = encode(json);
    int padded = (bytes.length + 7) / 8 * 8;
    byte[] result = Arrays.copyOf(bytes, padded);
    Arrays.fill(result, bytes.length, padded, (byte) ' ');
    return result;
  }

  private static String field(Slot slot) {
    String shape = slot.shape().stream().map(String::valueOf).collect(Collectors.joining(","));
    return quote(slot.name())
        + ":{\"dtype\":\""
        + slot.type().safetensorsName()
        + "\",\"shape\":["
        + shape
        + "],\"data_offsets\":["
        + slot.begin()
        + ","
        + slot.end()
        + "]}";
  }

  /// A JSON string, escaped as the reference implementation escapes: only what JSON demands, with
  /// lower-case hexadecimal digits.
  private static String quote(String text) {
    var quoted = new StringBuilder("\"");
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      switch (c) {
        case '"' -> quoted.append("\\\"");
        case '\\' -> quoted.append("\\\\");
        case '\b' -> quoted.append("\\b");
        case '\t' -> quoted.append("\\t");
        case '\n' -> quoted.append("\\n");
        case '\f' -> quoted.append("\\f");
        case '\r' -> quoted.append("\\r");
        default -> {
          if (c < ' ') {
            quoted.append(String.format("\\u%04x", (int) c));
          } else {
            quoted.append(c);
          }
        }
      }
    }
    return quoted.append('"').toString();
  }

  private static byte[] encode(CharSequence json) {
    try {
      ByteBuffer bytes = StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(json));
      byte[] result = new byte[bytes.remaining()];
      bytes.get(result);
      return result;
    } catch (CharacterCodingException e) {
      throw new IllegalArgumentException("a name or metadata text is not valid Unicode", e);
    }
  }

  /// Reads a header and checks everything that can be checked without the data.
  ///
  /// @param takesFloat8 whether a tensor of F8_E4M3 is one of bytes
  static SafetensorsHeader parse(Path file, byte[] bytes, boolean takesFloat8) {
    String json;
    try {
      json = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
    } catch (CharacterCodingException e) {
      throw notAHeader(file, "is not UTF-8 text", e);
    }
    if (!json.startsWith("{")) {
      throw notAHeader(file, "does not begin with {", null);
    }
    try (JsonParser parser = JSON.createParser(json)) {
      return new Reader(file, parser, takesFloat8).header();
    } catch (JacksonException e) {
      throw notAHeader(file, "is not valid JSON (" + JsonFile.problem(json, e) + ")", e);
    }
  }

  private static InvalidInputException notAHeader(
      Path file, String what, @Nullable Throwable cause) {
    String message =
        file
            + ": the header "
            + what
            + ", so this is not a safetensors file or it is damaged; fetch or save it again";
    return cause == null
        ? new InvalidInputException(message)
        : new InvalidInputException(message, cause);
  }

  /// One pass over the header's JSON.
  private record Reader(Path file, JsonParser parser, boolean takesFloat8) {
    SafetensorsHeader header() {
      Map<String, String> metadata = new LinkedHashMap<>();
      List<Slot> slots = new ArrayList<>();
      Set<String> names = new HashSet<>();
      parser.nextToken();
      while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
        String name = parser.currentName();
        if (!names.add(name)) {
          throw bad("the name " + Listing.quoted(name) + " occurs twice in the header");
        }
        if (name.equals(METADATA)) {
          metadata(metadata);
        } else {
          slots.add(slot(name));
        }
      }
      if (parser.nextToken() != null) {
        throw notAHeader(file, "goes on after its closing }", null);
      }
      slots.sort(Comparator.comparingLong(Slot::begin).thenComparingLong(Slot::end));
      checkCoverage(slots);
      return new SafetensorsHeader(Collections.unmodifiableMap(metadata), List.copyOf(slots));
    }

    private void metadata(Map<String, String> metadata) {
      JsonToken start = parser.nextToken();
      if (start == JsonToken.VALUE_NULL) {
        return;
      }
      if (start != JsonToken.START_OBJECT) {
        throw bad(METADATA + " is not a JSON object");
      }
      while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
        String key = parser.currentName();
        if (parser.nextToken() != JsonToken.VALUE_STRING) {
          throw bad("the value of " + Listing.quoted(key) + " in " + METADATA + " is not a string");
        }
        if (metadata.put(key, parser.getString()) != null) {
          throw bad("the key " + Listing.quoted(key) + " occurs twice in " + METADATA);
        }
      }
    }

    private Slot slot(String name) {
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        throw bad("the description of tensor " + Listing.quoted(name) + " is not a JSON object");
      }
      @Nullable ElementType type = null;
      @Nullable List<Long> shape = null;
      @Nullable List<Long> offsets = null;
      Set<String> fields = new HashSet<>();
      while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
        String field = parser.currentName();
        if (!fields.add(field)) {
          throw bad(
              "tensor " + Listing.quoted(name) + " gives " + Listing.quoted(field) + " twice");
        }
        parser.nextToken();
        switch (field) {
          case "dtype" -> type = type(name);
          case "shape" -> shape = counts(name, field);
          case "data_offsets" -> offsets = counts(name, field);
          // The reference reads past fields it does not know, and so do we.
          default -> parser.skipChildren();
        }
      }
      if (type == null || shape == null || offsets == null) {
        throw bad("tensor " + Listing.quoted(name) + " lacks one of dtype, shape, data_offsets");
      }
      if (offsets.size() != 2 || offsets.get(0) > offsets.get(1)) {
        throw bad(
            "tensor "
                + Listing.quoted(name)
                + " has data_offsets "
                + Printable.brief(offsets, 100)
                + ", not [begin, end]");
      }
      if (shape.size() > MOST_DIMENSIONS) {
        throw bad(
            "tensor %s has %d dimensions, more than the %d that a tensor may have"
                .formatted(Listing.quoted(name), shape.size(), MOST_DIMENSIONS));
      }
      var slot = new Slot(name, type, shape, offsets.get(0), offsets.get(1));
      checkSize(slot);
      return slot;
    }

    private ElementType type(String name) {
      String given = parser.getString();
      if (takesFloat8 && given.equals(FLOAT8)) {
        return ElementType.UINT8;
      }
      for (ElementType type : ElementType.values()) {
        if (type.safetensorsName().equals(given)) {
          return type;
        }
      }
      String known =
          Arrays.stream(ElementType.values())
              .map(ElementType::safetensorsName)
              .collect(Collectors.joining(", "));
      throw new InvalidInputException(
          "%s: tensor %s has dtype %s, which Sluice does not read; convert it to one of %s"
              .formatted(file, Listing.quoted(name), Printable.brief(given, 40), known));
    }

    private List<Long> counts(String name, String field) {
      if (parser.currentToken() != JsonToken.START_ARRAY) {
        throw bad("tensor " + Listing.quoted(name) + " has a " + field + " that is not a list");
      }
      List<Long> counts = new ArrayList<>();
      while (parser.nextToken() != JsonToken.END_ARRAY) {
        boolean fits =
            parser.currentToken() == JsonToken.VALUE_NUMBER_INT
                && parser.getNumberType() != JsonParser.NumberType.BIG_INTEGER
                && parser.getLongValue() >= 0;
        if (!fits) {
          throw bad(
              "tensor "
                  + Listing.quoted(name)
                  + " has "
                  + Printable.brief(parser.getString(), 40)
                  + " in its "
                  + field
                  + ", where a whole number from 0 to "
                  + Long.MAX_VALUE
                  + " must stand");
        }
        counts.add(parser.getLongValue());
      }
      return List.copyOf(counts);
    }

    private void checkSize(Slot slot) {
      String tensor = "tensor " + Listing.quoted(slot.name()) + " of shape " + slot.shape();
      long needed;
      try {
        needed = bytes(slot.type(), slot.shape());
      } catch (ArithmeticException e) {
        throw new InvalidInputException(
            file + ": " + tensor + " has more bytes than a file can hold; save the file again", e);
      }
      long given = slot.end() - slot.begin();
      if (given != needed) {
        throw bad(
            tensor
                + " and dtype "
                + slot.type().safetensorsName()
                + " needs "
                + needed
                + " bytes but its data_offsets give it "
                + given);
      }
    }

    /// The format demands that the tensors cover the data: bytes that no tensor owns could hide
    /// another file, and two tensors on the same bytes could hide a mistake.
    private void checkCoverage(List<Slot> slots) {
      long end = 0;
      String previous = "the header";
      for (Slot slot : slots) {
        if (slot.begin() != end) {
          long gap = slot.begin() - end;
          throw bad(
              gap > 0
                  ? gap
                      + " bytes between "
                      + previous
                      + " and "
                      + Listing.quoted(slot.name())
                      + " are no tensor's"
                  : Listing.quoted(slot.name())
                      + " and "
                      + previous
                      + " overlap in "
                      + -gap
                      + " bytes");
        }
        end = slot.end();
        previous = Listing.quoted(slot.name());
      }
    }

    private InvalidInputException bad(String what) {
      return new InvalidInputException(
          file + ": " + what + ", so the file is damaged; fetch or save it again");
    }
  }

  /// How many bytes a tensor has; an [ArithmeticException] if a `long` cannot say.
  static long bytes(ElementType type, List<Long> shape) {
    long elements = 1;
    for (long dimension : shape) {
      elements = Math.multiplyExact(elements, dimension);
    }
    return Math.multiplyExact(elements, type.bytes());
  }
}
