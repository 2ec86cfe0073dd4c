/* An RTSP server of live555 that plays one elementary stream: live555_server PORT FILE [USER PASSWORD]
 *
 * Built by `python -m tests.support.live555`. FILE ends in .h264 or .hevc.
 */
#include <cstdlib>
#include <cstring>

#include "BasicUsageEnvironment.hh"
#include "liveMedia.hh"

int main(int argc, char **argv) {
    if (argc != 3 && argc != 5)
        return 2;
    UsageEnvironment &environment = *BasicUsageEnvironment::createNew(*BasicTaskScheduler::createNew());
    OutPacketBuffer::maxSize = 4000000; /* of the largest picture */
    UserAuthenticationDatabase *users = NULL;
    if (argc == 5) {
        users = new UserAuthenticationDatabase;
        users->addUserRecord(argv[3], argv[4]);
    }
    RTSPServer *server = RTSPServer::createNew(environment, Port((portNumBits)atoi(argv[1])), users, 10);
    if (server == NULL) {
        environment << environment.getResultMsg() << "\n";
        return 1;
    }
    const char *file = argv[2];
    ServerMediaSession *session = ServerMediaSession::createNew(environment, "cam");
    if (strstr(file, ".hevc") != NULL)
        session->addSubsession(H265VideoFileServerMediaSubsession::createNew(environment, file, True));
    else
        session->addSubsession(H264VideoFileServerMediaSubsession::createNew(environment, file, True));
    server->addServerMediaSession(session);
    environment.taskScheduler().doEventLoop();
    return 0;
}
