package dev.sluice.fuzz;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.files.JsonFile;
import dev.sluice.template.ChatTemplate;
import dev.sluice.template.Conversation;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/// Chat templates, whole and of one construct each.
class TemplateFuzzTest {
  private static final Path GOLDEN = Path.of("src/test/resources/template/golden.json");

  @Test
  void chatTemplates() throws IOException {
    var golden = JsonFile.read(GOLDEN, JsonFile.SMALL, "take it from the repository");
    var templates = new ArrayList<byte[]>();
    for (var one : golden.path("cases")) {
      templates.add(one.path("template").stringValue().getBytes(StandardCharsets.UTF_8));
    }
    byte[] whole = golden.path("template").stringValue().getBytes(StandardCharsets.UTF_8);
    var conversation =
        new Conversation(
            List.of(Map.of("role", "user", "content", "Hi")),
            null,
            Conversation.Ending.GENERATION_PROMPT,
            Map.of("name", "x", "nums", List.of(3, 1, 2)));
    var outcome =
        Fuzz.run(
            "chat-template",
            mutations ->
                mutations.bytes(
                    mutations.below(4) == 0
                        ? whole
                        : templates.get(mutations.below(templates.size()))),
            input ->
                ChatTemplate.parse(new String(input, StandardCharsets.UTF_8))
                    .render(conversation, Map.of(), LocalDateTime.MIN));
    assertTrue(outcome.refused() > 0 && outcome.read() > 0, outcome::toString);
  }
}
