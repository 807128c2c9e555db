package dev.sluice.template;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;

import dev.sluice.TestData;
import dev.sluice.files.Sha256;
import java.nio.charset.StandardCharsets;
import java.time.LocalDateTime;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;

/// The template that Qwen3 is published with.
@Tag("shared")
class Qwen3TemplateTest {
  @Test
  void itsConversationsAreAsInTransformers() {
    ChatTemplates templates = ChatTemplates.find(TestData.SHARED.resolve("data/tokenizers/qwen3"));
    assertNotNull(templates);
    for (JsonNode one : ChatTemplateTest.golden("qwen3.json").path("conversations")) {
      Conversation conversation = ChatTemplateTest.conversation(one.path("context"));
      String text = templates.render(conversation, LocalDateTime.MIN).text();
      assertEquals(one.path("characters").intValue(), text.codePointCount(0, text.length()), text);
      assertEquals(
          one.path("sha256").stringValue(),
          Sha256.hex(text.getBytes(StandardCharsets.UTF_8)),
          one.path("name").stringValue());
    }
  }
}
