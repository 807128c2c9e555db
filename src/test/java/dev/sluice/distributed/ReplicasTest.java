package dev.sluice.distributed;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.tensor.ProcessGroup.Store;
import java.io.IOException;
import java.net.ServerSocket;
import java.time.Duration;
import org.junit.jupiter.api.Test;

/// A rank that dies is in `RankDeathTest`.
class ReplicasTest {
  private static final Duration TIMEOUT = Duration.ofSeconds(30);

  private static int freePort() throws IOException {
    try (var socket = new ServerSocket(0)) {
      return socket.getLocalPort();
    }
  }

  private static Ranks rank(int rank, int port, String networkInterface) {
    return new Ranks(rank, 2, rank, 2, "127.0.0.1", port, rank == 0, 0, networkInterface);
  }

  private static void assertLost(Throwable e) {
    assertTrue(Replicas.isLostContact(e), e::toString);
    assertTrue(Replicas.isLostContact(new IllegalStateException("wrapped", e)));
    assertEquals(1, e.getMessage().lines().count(), e::getMessage);
  }

  @Test
  void wordsDoNotDecide() {
    for (String words :
        new String[] {"gloo", "NCCL", "TCPStore", "Connection reset by peer", "Broken pipe"}) {
      assertFalse(Replicas.isLostContact(new RuntimeException(words)));
      assertFalse(Replicas.isLostContact(new InvalidInputException("no file gloo.txt: " + words)));
      assertFalse(Replicas.isLostContact(new IOException(words)));
    }
    assertFalse(Replicas.isLostContact(new NullPointerException()));
  }

  @Test
  void aStoreThatIsNotThere() throws Exception {
    int port = freePort();
    assertLost(
        assertThrows(
            RuntimeException.class,
            () -> Store.connect("127.0.0.1", port, false, "test", Duration.ofMillis(300))));
  }

  @Test
  void aKeyThatDoesNotCome() throws Exception {
    int port = freePort();
    try (var server = Store.connect("127.0.0.1", port, true, "test", Duration.ofMillis(300))) {
      server.set("there", "yes");
      assertEquals("yes", server.await("there"));
      assertLost(assertThrows(RuntimeException.class, () -> server.await("never")));
    }
  }

  @Test
  void aStoreThatIsGone() throws Exception {
    int port = freePort();
    var server = Store.connect("127.0.0.1", port, true, "test", TIMEOUT);
    try (var client = Store.connect("127.0.0.1", port, false, "test", TIMEOUT)) {
      server.close();
      assertLost(assertThrows(RuntimeException.class, () -> client.get("key")));
    }
  }

  @Test
  void anInterfaceThatIsNotThereIsInput() throws Exception {
    int port = freePort();
    try (var store = Store.connect("127.0.0.1", port, true, "test", TIMEOUT)) {
      var failure =
          assertThrows(
              InvalidInputException.class,
              () -> Replicas.join(rank(0, port, "no-such-interface"), store, false));
      assertTrue(failure.getMessage().contains("no-such-interface"), failure::getMessage);
      assertTrue(failure.getMessage().contains("GLOO_SOCKET_IFNAME"), failure::getMessage);
    }
  }
}
