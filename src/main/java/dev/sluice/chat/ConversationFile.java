package dev.sluice.chat;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.JsonFile;
import dev.sluice.files.WholeFile;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// A conversation as a file of JSON: `{"model": …, "messages": [{"role", "content",
/// "reasoning_content"}]}`, as clients of chat services have them.
public final class ConversationFile {
  private static final String WAY_OUT = "correct it, or begin another conversation";
  private static final JsonMapper JSON =
      JsonFile.mapper().enable(SerializationFeature.INDENT_OUTPUT).build();

  private ConversationFile() {}

  /// What a file holds.
  ///
  /// @param model with which it was held
  public record Held(String model, List<Message> messages) {}

  /// Reads a file.
  public static Held read(Path file) {
    ObjectNode root = JsonFile.object(file, JsonFile.SMALL, WAY_OUT);
    var messages = new ArrayList<Message>();
    JsonNode all = root.path("messages");
    if (!all.isArray()) {
      throw wrong(file, "messages", all, "a list");
    }
    for (int i = 0; i < all.size(); i++) {
      String place = "messages[%d]".formatted(i);
      JsonNode one = all.get(i);
      String word = text(file, place + ".role", one.path("role"));
      var role =
          Arrays.stream(Message.Role.values())
              .filter(candidate -> candidate.word().equals(word))
              .findFirst()
              .orElseThrow(
                  () ->
                      wrong(file, place + ".role", one.path("role"), "system, user or assistant"));
      if (role == Message.Role.SYSTEM && i > 0) {
        throw wrong(file, place + ".role", one.path("role"), "that of the first message alone");
      }
      messages.add(
          new Message(
              role,
              text(file, place + ".content", one.path("content")),
              one.has("reasoning_content")
                  ? text(file, place + ".reasoning_content", one.path("reasoning_content"))
                  : ""));
    }
    return new Held(root.has("model") ? text(file, "model", root.path("model")) : "", messages);
  }

  private static String text(Path file, String place, JsonNode node) {
    if (!node.isString()) {
      throw wrong(file, place, node, "a string");
    }
    return node.stringValue();
  }

  private static InvalidInputException wrong(
      Path file, String place, JsonNode found, String wanted) {
    return new InvalidInputException(
        "%s: %s must be %s, not %s; %s"
            .formatted(
                file,
                place,
                wanted,
                found.isMissingNode() ? "missing" : Printable.brief(found, 60),
                WAY_OUT));
  }

  /// Writes a file, whole or not at all.
  public static void write(Path file, Held held) throws IOException {
    ObjectNode root = JSON.createObjectNode();
    root.put("model", held.model());
    var all = root.putArray("messages");
    for (var message : held.messages()) {
      var one = all.addObject();
      one.put("role", message.role().word());
      one.put("content", message.content());
      if (!message.thinking().isEmpty()) {
        one.put("reasoning_content", message.thinking());
      }
    }
    WholeFile.write(file, JSON.writeValueAsString(root) + "\n");
  }
}
