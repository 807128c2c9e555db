package dev.sluice.ruler;

import dev.sluice.files.Sha256;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// One prompt of a task with what belongs into the answer.
///
/// @param maxLength the length asked for, in tokens, what is generated included
/// @param number of the sample within its task and length, from 0: in a file, the line
/// @param index as a file has it. In NVIDIA's needle files it is no number of the sample
/// @param prompt what the model continues
/// @param input the prompt without its answer prefix
/// @param answerPrefix with which the answer begins
/// @param outputs the references, at least one
/// @param length tokens used as its maker counted them, what is generated included
/// @param lengthWithTemplate the same with a chat template's tokens
/// @param tokenPositionOfAnswer of the first reference in the input, where that is told
public record Sample(
    RulerTask task,
    int maxLength,
    int number,
    int index,
    String prompt,
    String input,
    String answerPrefix,
    List<String> outputs,
    int length,
    int lengthWithTemplate,
    @Nullable Integer tokenPositionOfAnswer) {
  public Sample {
    outputs = List.copyOf(outputs);
  }

  /// Identifies the prompt by its content.
  public String fingerprint() {
    return Sha256.hex(prompt.getBytes(StandardCharsets.UTF_8));
  }

  /// Where a reference stands in the input, from 0 to 1; NaN where it does not.
  public double depth(String output) {
    int at = input.indexOf(output);
    return at < 0 ? Double.NaN : (double) at / input.length();
  }
}
