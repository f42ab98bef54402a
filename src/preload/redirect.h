/* SPDX-License-Identifier: PostgreSQL */
/* Included before each source of src/client that is built for this library: libpq is the one that the thread is in. */
#ifndef PGLEASE_PRELOAD_REDIRECT_H
#define PGLEASE_PRELOAD_REDIRECT_H

#include "library.h"

#define PGLEASE_PRELOAD 1

/* clang-format off */
#define PQconnectdb (library_now->PQconnectdb)
#define PQconnectdbParams (library_now->PQconnectdbParams)
#define PQsetdbLogin (library_now->PQsetdbLogin)
#define PQconnectStart (library_now->PQconnectStart)
#define PQconnectStartParams (library_now->PQconnectStartParams)
#define PQconnectPoll (library_now->PQconnectPoll)
#define PQping (library_now->PQping)
#define PQpingParams (library_now->PQpingParams)
#define PQreset (library_now->PQreset)
#define PQresetStart (library_now->PQresetStart)
#define PQresetPoll (library_now->PQresetPoll)
#define PQfinish (library_now->PQfinish)
#define PQconninfo (library_now->PQconninfo)
#define PQdb (library_now->PQdb)
#define PQuser (library_now->PQuser)
#define PQpass (library_now->PQpass)
#define PQhost (library_now->PQhost)
#define PQhostaddr (library_now->PQhostaddr)
#define PQport (library_now->PQport)
#define PQoptions (library_now->PQoptions)
#define PQbackendPID (library_now->PQbackendPID)
#define PQclear (library_now->PQclear)
#define PQclientEncoding (library_now->PQclientEncoding)
#define PQconndefaults (library_now->PQconndefaults)
#define PQconninfoFree (library_now->PQconninfoFree)
#define PQconninfoParse (library_now->PQconninfoParse)
#define PQconsumeInput (library_now->PQconsumeInput)
#define PQerrorMessage (library_now->PQerrorMessage)
#define PQexec (library_now->PQexec)
#define PQfreemem (library_now->PQfreemem)
#define PQgetResult (library_now->PQgetResult)
#define PQinstanceData (library_now->PQinstanceData)
#define PQisBusy (library_now->PQisBusy)
#define PQisnonblocking (library_now->PQisnonblocking)
#define PQlibVersion (library_now->PQlibVersion)
#define PQmakeEmptyPGresult (library_now->PQmakeEmptyPGresult)
#define PQnotifies (library_now->PQnotifies)
#define PQparameterStatus (library_now->PQparameterStatus)
#define PQpipelineStatus (library_now->PQpipelineStatus)
#define PQregisterEventProc (library_now->PQregisterEventProc)
#define PQresultMemorySize (library_now->PQresultMemorySize)
#define PQresultStatus (library_now->PQresultStatus)
#define PQsendQuery (library_now->PQsendQuery)
#define PQsetErrorContextVisibility (library_now->PQsetErrorContextVisibility)
#define PQsetErrorVerbosity (library_now->PQsetErrorVerbosity)
#define PQsetInstanceData (library_now->PQsetInstanceData)
#define PQsetNoticeProcessor (library_now->PQsetNoticeProcessor)
#define PQsetNoticeReceiver (library_now->PQsetNoticeReceiver)
#define PQsetnonblocking (library_now->PQsetnonblocking)
#define PQsocket (library_now->PQsocket)
#define PQstatus (library_now->PQstatus)
#define PQtransactionStatus (library_now->PQtransactionStatus)
#define PQuntrace (library_now->PQuntrace)
/* clang-format on */

#endif
