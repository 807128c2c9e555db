package dev.sluice.openai;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;

import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.StandardSocketOptions;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedByInterruptException;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;

class GuardTest {
  /// A client that never reads: whoever writes to it gets free, and the connection is closed.
  @Test
  void whoWritesToAClientThatDoesNotReadIsFreed() throws Exception {
    try (var guard = new Guard();
        var listening = ServerSocketChannel.open();
        var client = SocketChannel.open()) {
      listening.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0));
      client.setOption(StandardSocketOptions.SO_RCVBUF, 1 << 12);
      client.connect(listening.getLocalAddress());
      var accepted = listening.accept();
      accepted.setOption(StandardSocketOptions.SO_SNDBUF, 1 << 12);
      var end = new CompletableFuture<Exception>();
      Thread.ofVirtual()
          .start(
              () -> {
                try (var watch = guard.watch()) {
                  watch.begin(Duration.ofDays(1));
                  watch.end();
                  while (true) {
                    watch.begin(Duration.ofMillis(50));
                    accepted.write(ByteBuffer.allocate(1 << 16));
                    watch.end();
                  }
                } catch (Exception e) {
                  end.complete(e);
                }
              });
      assertInstanceOf(ClosedByInterruptException.class, end.get());
      assertFalse(accepted.isOpen());
    }
  }
}
