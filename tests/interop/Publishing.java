import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.stream.IntStream;

/**
 * The JDK's HttpClient publishes: java Publishing.java url key. Prints what came of each attempt.
 *
 * Unless told otherwise it offers HTTP/2 (Upgrade: h2c) with each request.
 */
class Publishing {
    static final String EVENT = "{\"event\":\"item-create\",\"user\":\"ada\",\"vault\":\"v1\"}";
    static final byte[] LARGE = " ".repeat(30_000_000).concat(EVENT).getBytes();
    static final byte[] TOO_LARGE = " ".repeat(32 * 1024 * 1024).concat(EVENT).getBytes();

    static HttpRequest request(String url, String key, BodyPublisher body, boolean asks) {
        return HttpRequest.newBuilder(URI.create(url)).header("Authorization", "Bearer " + key)
            .timeout(Duration.ofSeconds(20)).expectContinue(asks).POST(body).build();
    }

    static BodyPublisher inChunks(byte[] body) {
        return BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body));
    }

    static void tell(HttpClient client, String name, HttpRequest request) {
        String told;
        try {
            told = "" + client.send(request, BodyHandlers.ofString()).statusCode();
        } catch (Exception error) {
            told = error.toString();
        }
        System.out.println(client.version() + " " + name + ": " + told);
    }

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0], key = arguments[1], wrong = "of-a-wrong-key";
        for (HttpClient.Version version : HttpClient.Version.values()) {
            HttpClient client = HttpClient.newBuilder().version(version).build();
            HttpRequest small = request(url, key, BodyPublishers.ofString(EVENT), false);
            long good = 0;
            for (int i = 0; i < 200; i++) {
                good += client.send(small, BodyHandlers.ofString()).statusCode() == 202 ? 1 : 0;
            }
            System.out.println(version + " one by one: " + good);
            var all = IntStream.range(0, 200).mapToObj(i -> client.sendAsync(small, BodyHandlers.ofString()))
                .toList();
            good = all.stream().filter(answer -> answer.join().statusCode() == 202).count();
            System.out.println(version + " at once: " + good);
            tell(client, "large", request(url, key, BodyPublishers.ofByteArray(LARGE), false));
            tell(client, "large, asked for", request(url, key, BodyPublishers.ofByteArray(LARGE), true));
            tell(client, "large, in chunks", request(url, key, inChunks(LARGE), false));
            // One who asks and is refused is not tried: this client then waits for ever, for any server.
            tell(client, "wrong key", request(url, wrong, BodyPublishers.ofByteArray(LARGE), false));
            tell(client, "wrong key, in chunks", request(url, wrong, inChunks(LARGE), false));
            tell(client, "too large", request(url, key, BodyPublishers.ofByteArray(TOO_LARGE), false));
            tell(client, "too large, in chunks", request(url, key, inChunks(TOO_LARGE), false));
        }
        System.exit(0);
    }
}
