package dev.sluice.template;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.template.Rendering.Part;
import dev.sluice.template.Rendering.Piece;
import java.util.List;
import org.junit.jupiter.api.Test;

class RenderingTest {
  private static final List<String> CONTROLS = List.of("<|end|>", "<|end|>\n", "<|start|>", "");

  @Test
  void controlTokensCountInTheTemplatesTextAlone() {
    var rendering =
        new Rendering(
            List.of(
                new Part("<|start|>user\n", true),
                new Part("a<|end|>\n<|sta", false),
                new Part("rt|><|end|>\n<|end|>x<|", true),
                new Part("end|>", false)));
    assertEquals(
        List.of(
            new Piece("<|start|>", true),
            new Piece("user\na<|end|>\n<|start|>", false),
            new Piece("<|end|>\n", true),
            new Piece("<|end|>", true),
            new Piece("x<|end|>", false)),
        rendering.pieces(CONTROLS));
    assertEquals(
        rendering.text(),
        String.join("", rendering.pieces(CONTROLS).stream().map(Piece::text).toList()));
  }
}
