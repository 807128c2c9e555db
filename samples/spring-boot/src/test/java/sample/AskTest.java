package sample;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.chat.Message;
import dev.sluice.serving.Question;
import dev.sluice.serving.TextModel;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import org.junit.jupiter.api.Test;
import org.springframework.beans.factory.annotation.Autowired;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.test.context.SpringBootTest;
import org.springframework.boot.test.context.SpringBootTest.WebEnvironment;

/// The application starts and streams what the model writes. The weights are random.
@SpringBootTest(
    webEnvironment = WebEnvironment.RANDOM_PORT,
    properties = "sluice.model=../tiny-chat")
class AskTest {
  @Value("${local.server.port}")
  private int port;

  @Autowired private TextModel model;

  @Test
  void anAnswerIsStreamed() throws Exception {
    var question = Question.of(new Message(Message.Role.USER, "whale"));
    String expected = model.answer(question, model.manner()).text();
    try (var client = HttpClient.newHttpClient()) {
      var request =
          HttpRequest.newBuilder(
                  URI.create("http://127.0.0.1:%d/ask?question=whale".formatted(port)))
              .build();
      var answer = client.send(request, BodyHandlers.ofLines());
      assertEquals(200, answer.statusCode());
      var pieces =
          answer
              .body()
              .filter(line -> line.startsWith("data:"))
              .map(line -> line.substring("data:".length()))
              .toList();
      assertTrue(pieces.size() > 5, pieces::toString);
      // an event has a line of data for each line of a piece
      assertEquals(expected.replace("\n", ""), String.join("", pieces));
    }
  }
}
