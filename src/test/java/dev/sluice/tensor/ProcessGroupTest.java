package dev.sluice.tensor;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import dev.sluice.cuda.TestedCard;
import dev.sluice.tensor.ProcessGroup.Store;
import java.io.IOException;
import java.net.ServerSocket;
import java.time.Duration;
import org.junit.jupiter.api.Test;

/// A group of one rank: that the library is there, takes tensors of the device and leaves them as
/// they are. On a card with `-Dsluice.test.device=cuda`, where it is NCCL, else Gloo.
class ProcessGroupTest {
  private static final Duration TIMEOUT = Duration.ofMinutes(1);

  @Test
  void oneRankIsTheSumOfAll() throws IOException {
    int port;
    try (var free = new ServerSocket(0)) {
      port = free.getLocalPort();
    }
    float[] numbers = {1, -2, 3.5f};
    try (var _ = Scope.open();
        var store = Store.connect("127.0.0.1", port, true, "test", TIMEOUT);
        var group = ProcessGroup.join(store, 0, 1, "127.0.0.1", TestedCard.isACard(), TIMEOUT)) {
      var tensor = Tensor.of(numbers, 3).to(TestedCard.DEVICE);
      group.allReduce(tensor).await();
      assertArrayEquals(numbers, tensor.floats());
      group.reduce(tensor, 0).await();
      assertArrayEquals(numbers, tensor.floats());
      group.broadcast(tensor, 0).await();
      assertArrayEquals(numbers, tensor.floats());
    }
  }
}
