import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.util.Properties;

/** Reads files from stdin, each after its length, and writes their properties to stdout. */
class ReadProperties {
    static void write(DataOutputStream out, String text) throws Exception {
        out.writeInt(text.length());
        out.writeChars(text);
    }

    public static void main(String[] arguments) throws Exception {
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in));
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out));
        while (true) {
            byte[] file = new byte[in.readInt()];
            in.readFully(file);
            Properties properties = new Properties();
            try {
                properties.load(new ByteArrayInputStream(file));
                out.writeInt(properties.size());
                for (String key : properties.stringPropertyNames()) {
                    write(out, key);
                    write(out, properties.getProperty(key));
                }
            } catch (IllegalArgumentException error) {
                out.writeInt(-1);
            }
            if (in.available() == 0) {
                out.flush();
            }
        }
    }
}
