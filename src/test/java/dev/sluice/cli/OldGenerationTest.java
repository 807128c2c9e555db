package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class OldGenerationTest {
  @Test
  void garbageIsCollectedBeforeTheHeapIsFull() {
    assertFalse(OldGeneration.isWorthIt(40L << 20, 0));
    assertTrue(OldGeneration.isWorthIt(60L << 20, 0));
    assertFalse(OldGeneration.isWorthIt(90L << 20, 30L << 20));
    assertTrue(OldGeneration.isWorthIt(120L << 20, 30L << 20));
  }

  /// Arrays larger than the young generation go there at once.
  @Test
  void whatIsHeldIsNotCollectedAgainAndAgain() {
    var oldGeneration = new OldGeneration();
    List<byte[]> held = new ArrayList<>();
    int collections = 0;
    for (int i = 0; i < 6; i++) {
      held.add(new byte[48 << 20]);
      collections += oldGeneration.collectInTime() ? 1 : 0;
    }
    assertTrue(collections >= 1 && collections <= 4, collections + " collections");
    assertEquals(6, held.size());
    held.clear();
    System.gc();
    assertFalse(oldGeneration.collectInTime());
  }
}
