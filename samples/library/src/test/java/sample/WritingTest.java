package sample;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import dev.sluice.chat.Message;
import dev.sluice.serving.Question;
import dev.sluice.serving.TextModel;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

/// A project of its own loads a checkpoint and writes with it. The weights are random.
class WritingTest {
  @Test
  void aModelWritesAndAnswers() {
    try (var model = TextModel.open(Path.of("../tiny-chat"))) {
      var manner = model.manner().withTokens(20);
      String text = model.complete("Call me ", manner).text();
      assertFalse(text.isEmpty());
      assertEquals(text, model.complete("Call me ", manner).text());
      var question = Question.of(new Message(Message.Role.USER, "Why is the sea salt?"));
      assertFalse(model.answer(question, manner).text().isEmpty());
    }
  }
}
