package dev.sluice.cli;

import java.lang.management.ManagementFactory;
import java.lang.management.MemoryPoolMXBean;
import java.lang.management.MemoryType;
import java.util.List;

/// The part of the heap where the serial collector keeps what has lived for a while. It lets it
/// grow up to the largest heap before it looks for garbage in it, so that a server of 30 MB of
/// objects takes a gigabyte within a day. Who runs for long asks for it earlier: a collection takes
/// some 100 ms, and there is one for each [#WORTH] of garbage. Other collectors see to it
/// themselves.
final class OldGeneration {
  /// Bytes of garbage that are worth a collection.
  private static final long WORTH = 48L << 20;

  private final List<MemoryPoolMXBean> pools =
      ManagementFactory.getMemoryPoolMXBeans().stream()
          .filter(pool -> pool.getType() == MemoryType.HEAP && pool.getName().equals("Tenured Gen"))
          .toList();

  /// Collects where it has probably become garbage for the most part.
  ///
  /// @return whether it has
  boolean collectInTime() {
    for (var pool : pools) {
      if (isWorthIt(pool.getUsage().getUsed(), pool.getCollectionUsage().getUsed())) {
        System.gc();
        return true;
      }
    }
    return false;
  }

  /// @param used bytes
  /// @param alive bytes after the last collection; 0 before the first
  static boolean isWorthIt(long used, long alive) {
    return used > WORTH + 2 * alive;
  }
}
