package dev.sluice.template;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.template.Conversation.Ending;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ChatTemplatesTest {
  private static final String CONFIG = "tokenizer_config.json";

  @TempDir private Path folder;

  private void write(String name, String text) throws IOException {
    Path file = folder.resolve(name);
    Files.createDirectories(file.getParent());
    Files.writeString(file, text);
  }

  private String render(@Nullable List<?> tools) {
    ChatTemplates templates = ChatTemplates.find(folder);
    assertNotNull(templates);
    return templates
        .render(
            new Conversation(
                List.of(Map.of("role", "user", "content", "Hi")), tools, Ending.CLOSED, Map.of()),
            LocalDateTime.MIN)
        .text();
  }

  private String message() {
    return assertThrows(InvalidInputException.class, () -> render(null)).getMessage();
  }

  @Test
  void aDirectoryMayHaveNone() throws IOException {
    assertNull(ChatTemplates.find(folder));
    write(CONFIG, "{\"chat_template\": null}");
    assertNull(ChatTemplates.find(folder));
  }

  @Test
  void theFileComesBeforeTheConfiguration() throws IOException {
    write(CONFIG, "{\"chat_template\": \"config {{ messages[0].content }}\"}");
    assertEquals("config Hi", render(null));
    write("chat_template.jinja", "file {{ messages[0].content }}\n");
    assertEquals("file Hi", render(null));
    assertEquals("file Hi", render(List.of()));
    write("additional_chat_templates/tool_use.jinja", "tools {{ tools|length }}");
    assertEquals("file Hi", render(null));
    assertEquals("tools 0", render(List.of()));
  }

  @Test
  void templatesMayHaveNames() throws IOException {
    write(
        CONFIG,
        """
        {"chat_template": [{"name": "default", "template": "plain"},
                           {"name": "tool_use", "template": "tools"}]}
        """);
    assertEquals("plain", render(null));
    assertEquals("tools", render(List.of(Map.of())));
    write(CONFIG, "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"x\"}]}");
    assertTrue(message().contains("templates named [rag] and none named 'default'"), message());
  }

  @Test
  void tokensAreTextsOrObjects() throws IOException {
    write(
        "special_tokens_map.json", "{\"bos_token\": \"old\", \"pad_token\": {\"content\": \"p\"}}");
    write(
        CONFIG,
        """
        {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "unk_token": null,
         "chat_template": "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}."}
        """);
    assertEquals("<s></s>p.", render(null));
  }

  @Test
  void whatIsWrongIsNamedWithItsFile() throws IOException {
    write(CONFIG, "{\"chat_template\": 3}");
    assertTrue(message().contains("neither a string nor a list"), message());
    write(CONFIG, "{\"chat_template\": \"a{% nope %}\"}");
    assertTrue(
        message()
            .startsWith("The chat template of " + folder.resolve(CONFIG) + ", line 1, column 5"),
        message());
    Files.write(folder.resolve("chat_template.jinja"), new byte[] {'a', (byte) 0xFF});
    assertTrue(message().contains("is not UTF-8 text"), message());
  }
}
