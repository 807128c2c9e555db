package dev.sluice.chat;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.chat.AnswerReader.Part;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class AnswerReaderTest {
  /// Control tokens of gpt-oss are written as `<|…|>`.
  private static String read(boolean thinks, List<String> pieces) {
    var thinking = new StringBuilder();
    var answer = new StringBuilder();
    var reader =
        new AnswerReader(
            thinks,
            (part, piece) -> {
              assertEquals(false, piece.isEmpty());
              (part == Part.THINKING ? thinking : answer).append(piece);
            });
    for (String piece : pieces) {
      if (piece.startsWith("<|")) {
        reader.control(piece);
      } else {
        reader.add(piece);
      }
    }
    reader.finish();
    return thinking + "|" + answer;
  }

  private static final String CASES =
      """
      false, 'Hello.', '|Hello.'
      false, '<think>why</think>because', 'why|because'
      false, '\\n<think>\\nwhy\\n\\nso\\n</think>\\n\\nbecause\\n', 'why\\n\\nso|because\\n'
      false, '<think></think>\\n\\nyes', '|yes'
      true, 'why\\n</think>\\n\\nyes', 'why|yes'
      true, 'never ends <b', 'never ends <b|'
      true, 'a </thin b', 'a </thin b|'
      false, '<thinking> is no mark', '|<thinking> is no mark'
      false, '<thin', '|<thin'
      false, ' 1 <think> 2', '| 1 <think> 2'
      false, '<think>a</think>b</think>c', 'a|b</think>c'
      false, '<think>a<think>b</think>c', 'a<think>b|c'
      true, '</think>', '|'
      false, '  ', '|'
      """;

  /// However the text is cut into pieces.
  @ParameterizedTest
  @CsvSource(textBlock = CASES, quoteCharacter = '\'')
  void thoughtsAreToldFromAnswers(boolean thinks, String text, String expected) {
    String whole = text.replace("\\n", "\n");
    String wanted = expected.replace("\\n", "\n");
    assertEquals(wanted, read(thinks, List.of(whole)));
    assertEquals(wanted, read(thinks, whole.chars().mapToObj(Character::toString).toList()));
    for (int cut = 1; cut < whole.length(); cut++) {
      assertEquals(wanted, read(thinks, List.of(whole.substring(0, cut), whole.substring(cut))));
    }
  }

  @ParameterizedTest
  @CsvSource({
    "<|channel|>,ana,lysis,<|message|>,why,<|end|>,<|start|>,assistant,<|channel|>,final,<|message|>,so,why|so",
    "<|channel|>,final,'',<|message|>,so,'','','','','',<|return|>,'',|so",
    "<|channel|>,commentary,'',<|message|>,so,<|end|>,'','','','','','',|so",
    "a,<|unknown|>,b,'','','','','','','','','',|ab"
  })
  void channelsOfGptOssAreKnown(
      String a,
      String b,
      String c,
      String d,
      String e,
      String f,
      String g,
      String h,
      String i,
      String j,
      String k,
      String l,
      String expected) {
    assertEquals(expected, read(false, List.of(a, b, c, d, e, f, g, h, i, j, k, l)));
  }
}
