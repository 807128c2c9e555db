package dev.sluice.template;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.template.Conversation.Ending;
import java.math.BigInteger;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ConversationTest {
  private static Conversation calling(Object arguments) {
    Map<String, Object> call =
        Map.of("type", "function", "function", Map.of("name", "f", "arguments", arguments));
    return new Conversation(
        List.of(
            Map.of("role", "user", "content", "x"),
            Map.of("role", "assistant", "content", "", "tool_calls", List.of(call))),
        null,
        Ending.CLOSED,
        Map.of());
  }

  private static Object argumentsOf(Conversation conversation) {
    var calls = (List<?>) conversation.messages().get(1).get("tool_calls");
    var function = (Map<?, ?>) ((Map<?, ?>) calls.getFirst()).get("function");
    return function.get("arguments");
  }

  @Test
  void argumentsOfToolCallsAreObjects() {
    Object parsed = Map.of("a", List.of(BigInteger.ONE, 1.5), "b", Map.of());
    assertEquals(parsed, argumentsOf(calling("{\"a\": [1, 1.5], \"b\": {}}")));
    assertEquals(Map.of("a", 1), argumentsOf(calling(Map.of("a", 1))));
    assertEquals(Map.of(), argumentsOf(calling(" ")));
    var flat =
        new Conversation(
            List.of(
                Map.of(
                    "role",
                    "assistant",
                    "tool_calls",
                    List.of(Map.of("name", "f", "arguments", "{\"q\": null}")))),
            null,
            Ending.CLOSED,
            Map.of());
    assertEquals(
        "{\"q\": null}",
        ChatTemplate.parse("{{ messages[0].tool_calls[0].arguments|tojson }}")
            .render(flat, Map.of(), java.time.LocalDateTime.MIN)
            .text());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          {"a": } | messages[1].tool_calls[0].function.arguments is not valid JSON: line 1
          {"a": 1, "a": 2} | arguments is not valid JSON: the key 'a' is given twice
          {"a": 1} x | messages[1].tool_calls[0].function.arguments is not valid JSON
          [1] | messages[1].tool_calls[0].function.arguments is not a JSON object; give one
          """)
  void argumentsThatAreNoObjectAreNamed(String arguments, String expected) {
    String message =
        assertThrows(InvalidInputException.class, () -> calling(arguments)).getMessage();
    assertTrue(message.contains(expected), message);
  }

  @Test
  void whatATemplateCannotBeGivenIsRefused() {
    assertThrows(
        InvalidInputException.class,
        () -> new Conversation(List.of(), null, Ending.CLOSED, Map.of()));
    assertThrows(
        InvalidInputException.class,
        () ->
            new Conversation(
                List.of(Map.of("role", "user")), null, Ending.CLOSED, Map.of("tools", 1)));
  }
}
