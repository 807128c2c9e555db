package dev.sluice.training;

import dev.sluice.distributed.Ranks;
import dev.sluice.distributed.Replicas;
import dev.sluice.tensor.ProcessGroup.Store;
import java.net.ServerSocket;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/// Two ranks in one process, a thread each, that really talk through Gloo.
final class TwoRanks {
  /// What a rank does.
  interface Work<R> {
    R run(Replicas replicas) throws Exception;
  }

  private TwoRanks() {}

  /// What each rank gave, in their order.
  static <R> List<R> run(Work<R> work) throws Exception {
    int port;
    try (var socket = new ServerSocket(0)) {
      port = socket.getLocalPort();
    }
    List<Callable<R>> ranks = new ArrayList<>();
    for (int rank = 0; rank < 2; rank++) {
      var self = new Ranks(rank, 2, rank, 2, "127.0.0.1", port, rank == 0, 0, null);
      ranks.add(
          () -> {
            try (var store =
                    Store.connect(
                        "127.0.0.1", port, self.serves(), "test", Duration.ofSeconds(60));
                var replicas = Replicas.join(self, store, false)) {
              R result = work.run(replicas);
              replicas.barrier();
              return result;
            }
          });
    }
    List<R> results = new ArrayList<>();
    try (var threads = Executors.newFixedThreadPool(2)) {
      for (Future<R> result : threads.invokeAll(ranks)) {
        results.add(result.get());
      }
    }
    return results;
  }
}
