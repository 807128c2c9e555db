package dev.sluice.kernel;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class ThreadsTest {
  private final int before = Threads.count();

  @AfterEach
  void restore() {
    Threads.count(before);
  }

  /// Threads that nobody has used before, of which only the first few can be started.
  private static ThreadFactory only(int threads) {
    var made = new AtomicInteger();
    return work ->
        new Thread(work) {
          {
            setDaemon(true);
          }

          @Override
          public void start() {
            if (made.incrementAndGet() > threads) {
              throw new OutOfMemoryError("unable to create native thread");
            }
            super.start();
          }
        };
  }

  private static void meet(CyclicBarrier barrier) {
    try {
      barrier.await();
    } catch (Exception e) {
      throw new IllegalStateException(e);
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3, 7})
  void jobsRunAtTheSameTime(int jobs) {
    var barrier = new CyclicBarrier(jobs);
    var ran = new AtomicIntegerArray(jobs);
    Threads.together(
        jobs,
        i -> {
          meet(barrier);
          ran.incrementAndGet(i);
        });
    for (int i = 0; i < jobs; i++) {
      assertEquals(1, ran.get(i));
    }
  }

  @ParameterizedTest
  @CsvSource({"0,1,5,3", "5,1,2,3", "7,9,2,2", "100,1,7,3", "100,1,200,3", "64,1,1,4"})
  void everyItemIsInOnePiece(long length, long grain, long piece, int threads) {
    Threads.count(threads);
    var seen = new AtomicIntegerArray((int) length);
    Threads.share(
        length,
        grain,
        piece,
        (from, to) -> {
          assertTrue(from < to || length == 0);
          for (long i = from; i < to; i++) {
            seen.incrementAndGet((int) i);
          }
        });
    for (int i = 0; i < length; i++) {
      assertEquals(1, seen.get(i));
    }
  }

  /// One thread cannot go on before all other pieces are done, also those of its own share.
  @Test
  void whatAThreadLeavesIsDoneByOthers() {
    Threads.count(2);
    var done = new CountDownLatch(15);
    Threads.share(
        16,
        1,
        1,
        (from, _) -> {
          if (from == 0) {
            await(done);
          } else {
            done.countDown();
          }
        });
    assertEquals(0, done.getCount());
  }

  private static void await(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  @ParameterizedTest
  @CsvSource({"1,1,1", "0,1,3", "5,1,3", "7,2,3", "100,1,7", "63,64,2"})
  void everyItemIsInOnePart(long length, long grain, int threads) {
    Threads.count(threads);
    var seen = new AtomicIntegerArray((int) length);
    Threads.split(
        length,
        grain,
        (from, to) -> {
          for (long i = from; i < to; i++) {
            seen.incrementAndGet((int) i);
          }
        });
    for (int i = 0; i < length; i++) {
      assertEquals(1, seen.get(i));
    }
  }

  /// Whatever a job throws, on whichever thread, comes out as it is, when all others are done.
  @ParameterizedTest
  @ValueSource(ints = {0, 1, 2})
  void whatAJobThrowsComesOutAsItIs(int thrower) {
    for (var thrown :
        new Throwable[] {
          new OutOfMemoryError("no memory for a tensor"),
          new StackOverflowError(),
          new InvalidInputException("oneDNN is missing"),
          new IndexOutOfBoundsException(3)
        }) {
      var done = new AtomicInteger();
      var caught =
          assertThrows(
              Throwable.class,
              () ->
                  Threads.together(
                      3,
                      i -> {
                        if (i == thrower) {
                          throw unchecked(thrown);
                        }
                        pause();
                        done.incrementAndGet();
                      }));
      assertSame(thrown, caught);
      assertEquals(2, done.get());
    }
    jobsRunAtTheSameTime(3);
  }

  private static RuntimeException unchecked(Throwable thrown) {
    if (thrown instanceof Error error) {
      throw error;
    }
    return (RuntimeException) thrown;
  }

  /// Long enough that who does not wait is seen.
  private static void pause() {
    try {
      Thread.sleep(30);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  /// Jobs that wait for one another must not begin unless all can: no job runs then, and what was
  /// started is used by the next caller.
  @Test
  void whenAThreadCannotBeStartedNoJobBegins() {
    int jobs = 40; // more than other tests have left idle
    var ran = new AtomicInteger();
    for (int startable : new int[] {0, 3}) {
      var failure =
          assertThrows(
              OutOfMemoryError.class,
              () -> Threads.together(jobs, _ -> ran.incrementAndGet(), only(startable)));
      assertEquals("unable to create native thread", failure.getMessage());
    }
    pause();
    assertEquals(0, ran.get());
    jobsRunAtTheSameTime(jobs);
  }

  @Test
  void anInterruptionIsKeptUntilAllAreDone() {
    var done = new AtomicInteger();
    Thread.currentThread().interrupt();
    Threads.together(
        2,
        i -> {
          if (i == 1) {
            pause();
            done.incrementAndGet();
          }
        });
    assertEquals(1, done.get());
    assertTrue(Thread.interrupted());
    assertFalse(Thread.currentThread().isInterrupted());
  }

  @ParameterizedTest
  @ValueSource(ints = {0, -1, 1_000_000, Integer.MAX_VALUE})
  void nonsenseIsRefused(int threads) {
    String message =
        assertThrows(IllegalArgumentException.class, () -> Threads.count(threads)).getMessage();
    assertTrue(message.contains(String.valueOf(threads)), message);
    assertTrue(message.contains(String.valueOf(Threads.most())), message);
  }
}
