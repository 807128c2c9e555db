package sample;

import dev.langchain4j.model.chat.StreamingChatModel;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.chat.response.StreamingChatResponseHandler;
import dev.sluice.langchain4j.SluiceStreamingChatModel;
import dev.sluice.serving.TextModel;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.servlet.mvc.method.annotation.SseEmitter;

/// `GET /ask?question=…` streams an answer; who goes away frees what the answer held.
@SpringBootApplication
public class Ask {
  @Bean
  TextModel model(@Value("${sluice.model}") String path) {
    return TextModel.open(Path.of(path));
  }

  @Bean
  StreamingChatModel chat(TextModel model) {
    return new SluiceStreamingChatModel(model);
  }

  @RestController
  record Answers(StreamingChatModel chat) {
    @GetMapping("/ask")
    SseEmitter ask(@RequestParam String question) {
      var emitter = new SseEmitter(0L);
      chat.chat(question, new Sending(emitter));
      return emitter;
    }
  }

  private record Sending(SseEmitter emitter) implements StreamingChatResponseHandler {
    @Override
    public void onPartialResponse(String piece) {
      try {
        emitter.send(piece);
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }

    @Override
    public void onCompleteResponse(ChatResponse response) {
      emitter.complete();
    }

    @Override
    public void onError(Throwable failure) {
      emitter.completeWithError(failure);
    }
  }

  public static void main(String[] arguments) {
    SpringApplication.run(Ask.class, arguments);
  }
}
