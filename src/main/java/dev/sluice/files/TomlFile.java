package dev.sluice.files;

import dev.sluice.InvalidInputException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import tools.jackson.core.JacksonException;
import tools.jackson.core.exc.StreamConstraintsException;
import tools.jackson.databind.node.ObjectNode;
import tools.jackson.dataformat.toml.TomlMapper;

/// TOML files, and what is wrong with one in words.
public final class TomlFile {
  private static final TomlMapper TOML = TomlMapper.builder().build();

  private TomlFile() {}

  /// The keys and values of a file.
  public static ObjectNode read(Path file) {
    byte[] bytes = RegularFile.read(file, JsonFile.SMALL, "name a file of settings in TOML");
    try {
      return parse(
          file.toString(),
          StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString());
    } catch (CharacterCodingException e) {
      throw new InvalidInputException(
          file + " is not UTF-8 text, so it is not TOML; save it as UTF-8", e);
    }
  }

  /// The keys and values of a text.
  ///
  /// @param file its name, for messages
  public static ObjectNode parse(String file, String text) {
    try {
      if (TOML.readTree(text) instanceof ObjectNode object) {
        return object;
      }
      throw new InvalidInputException(file + " holds no settings; add one, such as steps = 100");
    } catch (StreamConstraintsException | StackOverflowError e) {
      // the parser counts levels late, and calls itself for every one
      throw new InvalidInputException(
          file
              + " is not valid TOML: it is nested too deeply, or a text or number in it is too"
              + " long; settings need no more than two levels",
          e);
    } catch (JacksonException e) {
      String reason = String.valueOf(e.getOriginalMessage()).lines().findFirst().orElse("");
      var location = e.getLocation();
      throw new InvalidInputException(
          "%s is not valid TOML%s: %s; correct it"
              .formatted(file, location == null ? "" : " in line " + location.getLineNr(), reason),
          e);
    } catch (IllegalArgumentException | ArithmeticException e) { // numbers and dates beyond Java's
      throw new InvalidInputException(
          "%s is not valid TOML: a number or a date in it cannot be read (%s); correct it"
              .formatted(file, e.getMessage()),
          e);
    }
  }
}
