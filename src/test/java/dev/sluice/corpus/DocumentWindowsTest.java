package dev.sluice.corpus;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.tokenizer.ByteTokenizer;
import java.io.StringWriter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

/// Windows that begin at documents, and the made task that is read by them.
class DocumentWindowsTest {
  private static final int END = 0;

  /// The rule as its documentation has it, over whole lists.
  private static List<List<Integer>> expected(List<Integer> tokens, int window) {
    var all = new ArrayList<Integer>();
    all.add(END); // before the first document
    all.addAll(tokens);
    List<List<Integer>> windows = new ArrayList<>();
    int start = 0;
    while (start + window <= all.size() && start < all.size() - 1) {
      windows.add(List.copyOf(all.subList(start, start + window)));
      int next = all.subList(start, start + window).lastIndexOf(END) + start;
      if (next == start) { // the document is longer: the rest of it is not read
        int found = all.subList(start + window, all.size()).indexOf(END);
        if (found < 0) {
          break;
        }
        next = start + window + found;
      }
      start = next;
    }
    return windows;
  }

  @Test
  void windowsBeginAtDocuments() {
    var random = new Random(7);
    for (int round = 0; round < 300; round++) {
      var tokens = new ArrayList<Integer>();
      int documents = 1 + random.nextInt(12);
      int longest = 1 + random.nextInt(20);
      for (int document = 0; document < documents; document++) {
        int length = 1 + random.nextInt(longest);
        for (int i = 0; i < length; i++) {
          tokens.add(1 + random.nextInt(50));
        }
        tokens.add(END);
      }
      int window = 2 + random.nextInt(12);
      var windows =
          new DocumentWindows(
              TokenShard.of(tokens.stream().mapToInt(id -> id).toArray()), END, window);
      var read = new ArrayList<List<Integer>>();
      for (int i = 0; i < windows.count(); i++) {
        long[] ids = new long[window];
        windows.copy(i, ids, 0);
        read.add(Arrays.stream(ids).mapToObj(id -> (int) id).toList());
      }
      assertEquals(expected(tokens, window), read, tokens + " in windows of " + window);
    }
  }

  @Test
  void whatIsBeyondTheWindowIsCounted() {
    var shard = TokenShard.of(1, 2, 3, 4, 5, END, 6, 7, 8, END);
    var windows = new DocumentWindows(shard, END, 3);
    assertEquals(2, windows.count());
    assertEquals(4, windows.unread()); // 3, 4, 5 and 8
    var reader = new BatchReader(shard, 2, 2, 1, WindowRule.DOCUMENTS, END);
    assertEquals(4, reader.unread());
    for (int batch = 0; batch < 5; batch++) {
      long[] ids = reader.batch(batch);
      assertEquals(END, ids[0]);
      assertEquals(END, ids[3]);
    }
  }

  @Test
  void bytesAreOfThePredictedTokens() {
    var shard = TokenShard.of('a', 'b', 'c', END, 'd', 'e', END, 'f', 'g', 'h', END);
    var reader = new HeldOutReader(shard, 4, new ByteTokenizer(), WindowRule.DOCUMENTS);
    assertArrayEquals(new long[] {END, 'a', 'b', 'c', END}, reader.window(0));
    assertEquals(3, reader.bytesOf(0));
    assertArrayEquals(new long[] {END, 'd', 'e', END, 'f'}, reader.window(1));
    assertEquals(3, reader.bytesOf(1));
  }

  @Test
  void textWithoutEnoughDocumentsIsRefused() {
    var shard = TokenShard.of(1, 2, 3, 4);
    var refused =
        assertThrows(
            InvalidInputException.class,
            () -> new HeldOutReader(shard, 3, new ByteTokenizer(), WindowRule.DOCUMENTS));
    assertTrue(refused.getMessage().contains("windows = \"stream\""), refused.getMessage());
    assertTrue(
        assertThrows(InvalidInputException.class, () -> WindowRule.parse("document"))
            .getMessage()
            .contains("use stream or documents"));
  }

  @Test
  void lettersAreCopiedAfterTriggersAlone() throws Exception {
    var task = Documents.bigramBackcopy(100);
    long copies = 0;
    long triggers = 0;
    int documents = 0;
    try (var cursor = task.open()) {
      for (var one = cursor.next(); one != null && documents < 500; one = cursor.next()) {
        var written = new StringWriter();
        one.text().transferTo(written);
        String text = written.toString();
        assertEquals(100, text.length());
        assertTrue(text.chars().allMatch(letter -> letter >= 'a' && letter <= 'z'));
        assertFalse("eta".indexOf(text.charAt(0)) >= 0, "no trigger comes first");
        for (int i = 2; i < text.length(); i++) {
          if ("eta".indexOf(text.charAt(i - 1)) >= 0) {
            triggers++;
            assertEquals(text.charAt(i - 2), text.charAt(i), text);
          } else {
            copies += text.charAt(i - 2) == text.charAt(i) ? 1 : 0;
          }
        }
        documents++;
      }
    }
    double share = triggers / (98.0 * documents);
    assertTrue(share > 0.2 && share < 0.3, "triggers " + share);
    assertTrue(copies < 0.1 * 98 * documents, "by chance alone: " + copies);
    double least = task.leastBitsPerByte();
    assertTrue(least > 2 && least < 4, "bits " + least);
    assertEquals(task.fingerprint(), Documents.bigramBackcopy(100).fingerprint());
    assertFalse(task.fingerprint().equals(Documents.bigramBackcopy(64).fingerprint()));
  }
}
